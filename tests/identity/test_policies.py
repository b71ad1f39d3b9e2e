"""A deny wins, an allow grants what roles do not, and a condition can do no harm."""

from datetime import timedelta
from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct

from services.chassis.clock import uuid7
from tests.identity.people import Metadata, World, refused
from weft.identity.v1 import policy_pb2 as pb
from weft.identity.v1.policy_pb2_grpc import PolicyServiceStub

ALLOW, DENY = pb.POLICY_EFFECT_ALLOW, pb.POLICY_EFFECT_DENY


@pytest.fixture
def policies(world: World) -> Any:
    return PolicyServiceStub(world.lab.channel)


@pytest.fixture
def area(world: World) -> str:
    """A corner of the permissions that no other test has policies about."""
    return f"commerce.t{world.tag}"


async def made(world: World, policies: Any, effect: int, permission: str, condition: str) -> pb.Policy:
    request = pb.CreatePolicyRequest(
        name="rule",
        effect=effect,  # type: ignore[arg-type]
        permission=permission,
        condition=condition,
    )
    response = await policies.CreatePolicy(request, metadata=(await world.admin()).bearer)
    policy: pb.Policy = response.policy
    return policy


async def asked(
    world: World, policies: Any, permission: str, caller: Metadata, **resource: Any
) -> pb.Decision:
    """What a service is told about the caller whose token it passes on."""
    attributes = Struct()
    attributes.update(resource)
    request = pb.CheckAccessRequest(permission=permission, resource=attributes, ip="10.1.2.3")
    response = await policies.CheckAccess(request, metadata=(*world.lab.as_service("commerce"), *caller))
    decision: pb.Decision = response.decision
    return decision


async def test_permissions_decide_where_no_policy_does(world: World, policies: Any, area: str) -> None:
    granted = await asked(world, policies, f"{area}.refund", world.lab.bearer(scope=f"{area}.*"))
    assert (granted.allowed, granted.ground) == (True, pb.DECISION_GROUND_PERMISSION)
    lacking = await asked(world, policies, f"{area}.refund", world.lab.bearer(scope="catalog.read"))
    assert (lacking.allowed, lacking.ground) == (False, pb.DECISION_GROUND_NOT_GRANTED)


async def test_a_deny_wins_and_is_named(world: World, policies: Any, area: str) -> None:
    await made(world, policies, ALLOW, f"{area}.*", "true")
    deny = await made(
        world, policies, DENY, f"{area}.refund", "resource.amount > 100 || subject.acting != ''"
    )
    caller = world.lab.bearer(scope=f"{area}.*")
    small = await asked(world, policies, f"{area}.refund", caller, amount=100)
    assert small.ground == pb.DECISION_GROUND_PERMISSION
    large = await asked(world, policies, f"{area}.refund", caller, amount=100.5)
    assert (large.allowed, large.ground, large.policy_id) == (
        False,
        pb.DECISION_GROUND_DENIED,
        deny.policy_id,
    )
    acting = world.lab.bearer(scope=f"{area}.*", act={"sub": "helper"})
    assert not (await asked(world, policies, f"{area}.refund", acting, amount=1)).allowed
    unknown = await asked(world, policies, f"{area}.refund", caller)
    assert (unknown.allowed, unknown.ground) == (False, pb.DECISION_GROUND_DENIED_UNEVALUATED)


async def test_an_allow_grants_what_roles_do_not(world: World, policies: Any, area: str) -> None:
    allow = await made(world, policies, ALLOW, f"{area}.read", "resource.owner == subject.id")
    caller = world.lab.bearer("somebody", scope="")
    own = await asked(world, policies, f"{area}.read", caller, owner="somebody")
    assert (own.ground, own.policy_id) == (pb.DECISION_GROUND_ALLOWED, allow.policy_id)
    assert not (await asked(world, policies, f"{area}.read", caller, owner="another")).allowed
    assert not (await asked(world, policies, f"{area}.read", caller)).allowed
    assert not (await asked(world, policies, f"{area}.write", caller, owner="somebody")).allowed


async def test_circumstances_count(world: World, policies: Any, area: str) -> None:
    condition = "!request.ip.startsWith('10.') || request.time > timestamp('2026-06-01T00:00:00Z')"
    await made(world, policies, DENY, f"{area}.export", condition)
    subject = pb.AccessSubject(id="a", kind="user", scope=[f"{area}.export"])
    admin = (await world.admin()).bearer

    async def allowed(ip: str, days: int) -> bool:
        request = pb.ExplainAccessRequest(subject=subject, permission=f"{area}.export", ip=ip)
        request.time.FromDatetime(world.clock.now() + timedelta(days=days))
        response = await policies.ExplainAccess(request, metadata=admin)
        return bool(response.decision.allowed)

    assert await allowed("10.0.0.1", 0)
    assert not await allowed("192.0.2.1", 0)
    assert not await allowed("10.0.0.1", 365)


async def test_a_change_counts_from_the_next_check_on(world: World, policies: Any, area: str) -> None:
    admin = await world.admin()
    policy = await made(world, policies, DENY, f"{area}.refund", "true")
    caller = world.lab.bearer(scope=f"{area}.*")
    assert not (await asked(world, policies, f"{area}.refund", caller)).allowed
    update = pb.UpdatePolicyRequest(
        policy_id=policy.policy_id,
        name="rule",
        effect=DENY,
        permission=f"{area}.refund",
        condition="false",
        etag=policy.etag,
    )
    await policies.UpdatePolicy(update, metadata=admin.bearer)
    assert (await asked(world, policies, f"{area}.refund", caller)).allowed
    assert await refused(policies.UpdatePolicy(update, metadata=admin.bearer)) == "ETAG_MISMATCH"
    delete = pb.DeletePolicyRequest(policy_id=policy.policy_id)
    await policies.DeletePolicy(delete, metadata=admin.bearer)
    assert await refused(policies.DeletePolicy(delete, metadata=admin.bearer)) == "POLICY_NOT_FOUND"


BAD_CONDITIONS = {
    "syntax": "resource.amount >",
    "another type": "1 + 1",
    "an unknown name": "environment.HOME == ''",
    "an unknown function": "matches(subject.id, '(a+)+$')",
    "an unknown method": "subject.id.matches('(a+)+$')",
    "nested comprehensions": "resource.a.all(x, resource.b.exists(y, x == y))",
    "too many parts": " && ".join(["true"] * 130),
    "too deep": "(" * 900 + "true" + ")" * 900,
}


@pytest.mark.parametrize("condition", BAD_CONDITIONS.values(), ids=BAD_CONDITIONS)
async def test_a_condition_that_is_none_or_may_take_long_is_refused(
    world: World, policies: Any, area: str, condition: str
) -> None:
    assert await refused(made(world, policies, ALLOW, f"{area}.x", condition)) == "CONDITION_REFUSED"


async def test_nobody_rules_over_what_they_lack(world: World, policies: Any, area: str) -> None:
    weak = world.lab.bearer(scope="identity.policies.*")
    request = pb.CreatePolicyRequest(name="mine", effect=ALLOW, permission="*", condition="true")
    assert await refused(policies.CreatePolicy(request, metadata=weak)) == "BEYOND_OWN_PERMISSIONS"
    policy = await made(world, policies, DENY, f"{area}.x", "true")
    delete = pb.DeletePolicyRequest(policy_id=policy.policy_id)
    assert await refused(policies.DeletePolicy(delete, metadata=weak)) == "BEYOND_OWN_PERMISSIONS"


async def test_only_the_mesh_checks_and_only_small_resources(world: World, policies: Any, area: str) -> None:
    request = pb.CheckAccessRequest(permission=f"{area}.x")
    assert await refused(policies.CheckAccess(request, metadata=world.lab.bearer())) == "MESH_ONLY"
    huge = asked(world, policies, f"{area}.x", world.lab.bearer(), text="x" * 20_000)
    assert await refused(huge) == "RESOURCE_REFUSED"
    many = asked(world, policies, f"{area}.x", world.lab.bearer(), items=[1] * 1_500)
    assert await refused(many) == "RESOURCE_REFUSED"
    get = pb.GetPolicyRequest(policy_id=str(uuid7()))
    assert await refused(policies.GetPolicy(get, metadata=world.lab.bearer())) == "POLICY_NOT_FOUND"
