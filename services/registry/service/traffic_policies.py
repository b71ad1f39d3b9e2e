"""weft.registry.v1.TrafficPolicyService."""

from __future__ import annotations

from services.chassis.events import emit
from services.chassis.masks import check_etag
from services.chassis.method import Call
from services.registry.domain.traffic_policy import POLICIES_MAX, TooManyTrafficPolicies, TrafficPolicy
from services.registry.service import pack
from services.registry.service.shared import Shared
from services.registry.store import state, traffic_policy as store
from weft.registry.v1 import traffic_policy_pb2 as pb
from weft.registry.v1.events_pb2 import TrafficPolicyChanged, TrafficPolicyDeleted
from weft.registry.v1.traffic_policy_pb2_grpc import TrafficPolicyServiceServicer


class TrafficPolicies(TrafficPolicyServiceServicer):
    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    async def SetTrafficPolicy(
        self, request: pb.SetTrafficPolicyRequest, call: Call
    ) -> pb.SetTrafficPolicyResponse:
        settings, now = request.settings.SerializeToString(deterministic=True), self._shared.clock.now()
        async with self._shared.db.transaction() as tx:
            order = await state.locked(tx)
            row = await store.find(tx, request.service)
            # What is so already is no conflict: the caller repeats a call whose answer was lost.
            if row is None or row.settings != settings:
                check_etag(request.etag, row.revision if row else 0)
                if row is None:
                    if await store.count(tx) >= POLICIES_MAX:
                        raise TooManyTrafficPolicies(max=POLICIES_MAX)
                    row = TrafficPolicy(service=request.service, created_at=now)
                    tx.add(row)
                row.settings, row.revision, row.updated_at = settings, order.next(), now
                await emit(tx, TrafficPolicyChanged(service=request.service))
        return pb.SetTrafficPolicyResponse(policy=pack.traffic_policy(row))

    async def GetTrafficPolicy(
        self, request: pb.GetTrafficPolicyRequest, call: Call
    ) -> pb.GetTrafficPolicyResponse:
        async with self._shared.db.transaction() as tx:
            row = await store.get(tx, request.service)
        return pb.GetTrafficPolicyResponse(policy=pack.traffic_policy(row))

    async def ListTrafficPolicies(
        self, request: pb.ListTrafficPoliciesRequest, call: Call
    ) -> pb.ListTrafficPoliciesResponse:
        page = store.POLICIES.page(request, self._shared.page_key)
        async with self._shared.db.transaction() as tx:
            rows, token = await store.page(tx, page)
        return pb.ListTrafficPoliciesResponse(policies=map(pack.traffic_policy, rows), next_page_token=token)

    async def DeleteTrafficPolicy(
        self, request: pb.DeleteTrafficPolicyRequest, call: Call
    ) -> pb.DeleteTrafficPolicyResponse:
        async with self._shared.db.transaction() as tx:
            order = await state.locked(tx)
            row = await store.get(tx, request.service)
            check_etag(request.etag, row.revision)
            await tx.delete(row)
            order.next()
            await emit(tx, TrafficPolicyDeleted(service=request.service))
        return pb.DeleteTrafficPolicyResponse()
