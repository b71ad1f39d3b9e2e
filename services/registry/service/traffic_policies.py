"""weft.registry.v1.TrafficPolicyService."""

from __future__ import annotations

from services.chassis.events import emit
from services.chassis.masks import check_etag
from services.chassis.method import Call
from services.registry.domain.traffic_policy import VersionNotServed, check_whole
from services.registry.service import pack, shares
from services.registry.service.shared import Shared
from services.registry.store import instance as instances, rollout as rollouts, state, traffic_policy as store
from weft.registry.v1 import traffic_policy_pb2 as pb
from weft.registry.v1.events_pb2 import TrafficPolicyDeleted
from weft.registry.v1.traffic_policy_pb2_grpc import TrafficPolicyServiceServicer


class TrafficPolicies(TrafficPolicyServiceServicer):
    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    async def SetTrafficPolicy(
        self, request: pb.SetTrafficPolicyRequest, call: Call
    ) -> pb.SetTrafficPolicyResponse:
        async with self._shared.db.transaction() as tx:
            order = await state.locked(tx)
            row = await store.find(tx, request.service)
            # What is so already is no conflict: the caller repeats a call whose answer was lost.
            if row is None or row.settings != request.settings.SerializeToString(deterministic=True):
                check_etag(request.etag, row.revision if row else 0)
                if shares.of(request.settings) != shares.of(shares.settings(row)):
                    await rollouts.check_none(tx, request.service)
                change = shares.Change(tx, order, self._shared.clock.now())
                row = await shares.write(change, row, request.service, request.settings)
        return pb.SetTrafficPolicyResponse(policy=pack.traffic_policy(row))

    async def SwitchVersion(self, request: pb.SwitchVersionRequest, call: Call) -> pb.SwitchVersionResponse:
        service, old, new = request.service, request.from_version, request.to_version
        async with self._shared.db.transaction() as tx:
            order = await state.locked(tx)
            row = await store.find(tx, service)
            now = shares.of(shares.settings(row))
            # The old version keeps its cluster, so that it ends its calls in peace and the way back is short.
            wanted = shares.between(new, old)
            if row is None or now != wanted:
                await rollouts.check_none(tx, service)
                check_whole(service, old, now)
                if not await instances.serving(tx, service, new):
                    raise VersionNotServed(service=service, version=new)
                row = await shares.deal(shares.Change(tx, order, self._shared.clock.now()), service, wanted)
        return pb.SwitchVersionResponse(policy=pack.traffic_policy(row))

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
            await rollouts.check_none(tx, request.service)
            await tx.delete(row)
            order.next()
            await emit(tx, TrafficPolicyDeleted(service=request.service))
        return pb.DeleteTrafficPolicyResponse()
