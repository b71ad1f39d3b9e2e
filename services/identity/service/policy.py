"""weft.identity.v1.PolicyService."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct

from services.chassis.caller import Caller
from services.chassis.clock import uuid7
from services.chassis.events import emit
from services.chassis.masks import EtagMismatch
from services.chassis.method import Call
from services.identity.domain import policy as rules
from services.identity.domain.policy import Policy, Question, ResourceRefused, Verdict
from services.identity.domain.role import require_within
from services.identity.service.shared import Shared
from services.identity.store import policy as store
from weft.identity.v1 import policy_pb2 as pb
from weft.identity.v1.credential_events_pb2 import PolicyCreated, PolicyDeleted, PolicyUpdated
from weft.identity.v1.policy_pb2_grpc import PolicyServiceServicer

EFFECTS = {pb.POLICY_EFFECT_ALLOW: rules.ALLOW, pb.POLICY_EFFECT_DENY: rules.DENY}
SHOWN = {effect: value for value, effect in EFFECTS.items()}


class Policies(PolicyServiceServicer):
    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._known: Sequence[Policy] = ()
        self._version = ""

    async def CreatePolicy(self, request: pb.CreatePolicyRequest, call: Call) -> pb.CreatePolicyResponse:
        rules.check(request.condition)
        require_within(call.caller.scope, [request.permission])
        now = self._shared.clock.now()
        policy = Policy(policy_id=uuid7(now), revision=1, created_at=now, updated_at=now)
        _describe(policy, request)
        async with self._shared.db.transaction() as tx:
            await store.require_room(tx)
            tx.add(policy)
            await emit(tx, PolicyCreated(policy_id=str(policy.policy_id)))
        return pb.CreatePolicyResponse(policy=to_pb(policy))

    async def GetPolicy(self, request: pb.GetPolicyRequest, call: Call) -> pb.GetPolicyResponse:
        async with self._shared.db.transaction() as tx:
            return pb.GetPolicyResponse(policy=to_pb(await store.get(tx, UUID(request.policy_id))))

    async def ListPolicies(self, request: pb.ListPoliciesRequest, call: Call) -> pb.ListPoliciesResponse:
        async with self._shared.db.transaction() as tx:
            return pb.ListPoliciesResponse(policies=map(to_pb, await store.every(tx)))

    async def UpdatePolicy(self, request: pb.UpdatePolicyRequest, call: Call) -> pb.UpdatePolicyResponse:
        rules.check(request.condition)
        async with self._shared.db.transaction() as tx:
            policy = await store.get(tx, UUID(request.policy_id), lock=True)
            require_within(call.caller.scope, [request.permission, policy.permission])
            if request.etag and request.etag != policy.etag:
                raise EtagMismatch(current=policy.etag, given=request.etag)
            _describe(policy, request)
            policy.revision, policy.updated_at = policy.revision + 1, self._shared.clock.now()
            await emit(tx, PolicyUpdated(policy_id=request.policy_id))
        return pb.UpdatePolicyResponse(policy=to_pb(policy))

    async def DeletePolicy(self, request: pb.DeletePolicyRequest, call: Call) -> pb.DeletePolicyResponse:
        async with self._shared.db.transaction() as tx:
            policy = await store.get(tx, UUID(request.policy_id), lock=True)
            require_within(call.caller.scope, [policy.permission])
            await tx.delete(policy)
            await emit(tx, PolicyDeleted(policy_id=request.policy_id))
        return pb.DeletePolicyResponse()

    async def CheckAccess(self, request: pb.CheckAccessRequest, call: Call) -> pb.CheckAccessResponse:
        caller = call.caller
        question = Question(
            permission=request.permission,
            subject=_subject(caller),
            scope=caller.scope,
            resource=_resource(request.resource),
            ip=request.ip,
            time=self._shared.clock.now(),
        )
        return pb.CheckAccessResponse(decision=decision_to_pb(await self._decide(question)))

    async def ExplainAccess(self, request: pb.ExplainAccessRequest, call: Call) -> pb.ExplainAccessResponse:
        about = request.subject
        subject = {
            "id": about.id,
            "kind": about.kind,
            "roles": sorted(about.roles),
            "acting": about.acting,
            "client": about.client,
        }
        question = Question(
            permission=request.permission,
            subject=subject,
            scope=frozenset(about.scope),
            resource=_resource(request.resource),
            ip=request.ip,
            time=self._time(request),
        )
        return pb.ExplainAccessResponse(decision=decision_to_pb(await self._decide(question)))

    async def _decide(self, question: Question) -> Verdict:
        return rules.decide(await self._current(), question)

    async def _current(self) -> Sequence[Policy]:
        """Every policy as it is now: one cheap read tells whether those at hand still are."""
        version = await store.version(self._shared.db)
        if version != self._version:
            async with self._shared.db.transaction() as tx:
                self._known = await store.every(tx)
            self._version = version
        return self._known

    def _time(self, request: pb.ExplainAccessRequest) -> datetime:
        if request.HasField("time"):
            return request.time.ToDatetime(tzinfo=UTC)
        return self._shared.clock.now()


def _subject(caller: Caller) -> dict[str, Any]:
    return {
        "id": caller.subject,
        "kind": caller.kind,
        "roles": sorted(caller.roles),
        "acting": caller.acting,
        "client": caller.client,
    }


def _resource(message: Struct) -> dict[str, Any]:
    """Raises ResourceRefused."""
    if message.ByteSize() > rules.RESOURCE_BYTES_MAX:
        raise ResourceRefused(field="resource")
    plain: dict[str, Any] = rules.plain(MessageToDict(message))
    return plain


def _describe(policy: Policy, request: pb.CreatePolicyRequest | pb.UpdatePolicyRequest) -> None:
    policy.name, policy.effect = request.name, EFFECTS[request.effect]
    policy.permission, policy.condition = request.permission, request.condition
    policy.disabled = request.disabled


def decision_to_pb(verdict: Verdict) -> pb.Decision:
    ground = pb.DecisionGround.Value(f"DECISION_GROUND_{verdict.ground.upper()}")
    return pb.Decision(allowed=verdict.allowed, ground=ground, policy_id=verdict.policy_id)


def to_pb(policy: Policy) -> pb.Policy:
    message = pb.Policy(
        policy_id=str(policy.policy_id),
        name=policy.name,
        effect=SHOWN[policy.effect],
        permission=policy.permission,
        condition=policy.condition,
        disabled=policy.disabled,
        etag=policy.etag,
    )
    message.create_time.FromDatetime(policy.created_at)
    message.update_time.FromDatetime(policy.updated_at)
    return message
