"""Roles grant sets of permissions; nobody hands on what they lack."""

from tests.identity.people import Person, World, refused
from weft.identity.v1 import role_pb2 as pb, sign_in_pb2, user_pb2


async def create(world: World, by: Person, name: str, *permissions: str) -> pb.Role:
    request = pb.CreateRoleRequest(role=name, description="for a test", permissions=permissions)
    response = await world.roles.CreateRole(request, metadata=by.bearer)
    role: pb.Role = response.role
    return role


async def grant(world: World, by: Person, whom: Person, role: str) -> None:
    request = pb.GrantRoleRequest(user_id=whom.user_id, role=role)
    await world.roles.GrantRole(request, metadata=by.bearer)


async def clerk(world: World, *permissions: str) -> Person:
    """Somebody with a role of their own."""
    person, admin = await world.person(world.at("clerk")), await world.admin()
    await create(world, admin, f"clerk-{world.tag}", *permissions)
    await grant(world, admin, person, f"clerk-{world.tag}")
    return await world.sign_in(world.at("clerk"))


async def test_built_in_roles_are_there_and_stay_as_they_are(world: World) -> None:
    admin = await world.admin()
    listed = (await world.roles.ListRoles(pb.ListRolesRequest(), metadata=admin.bearer)).roles
    assert [role.role for role in listed if role.built_in] == ["admin", "auditor", "support", "user"]
    change = pb.UpdateRoleRequest(role="support", permissions=["*"])
    assert await refused(world.roles.UpdateRole(change, metadata=admin.bearer)) == "ROLE_BUILT_IN"
    delete = pb.DeleteRoleRequest(role="auditor")
    assert await refused(world.roles.DeleteRole(delete, metadata=admin.bearer)) == "ROLE_BUILT_IN"


async def test_granted_role_is_in_the_next_token(world: World) -> None:
    person, admin = await world.person(), await world.admin()
    ask = user_pb2.ListUsersRequest(page_size=1)
    assert await refused(world.users.ListUsers(ask, metadata=person.bearer)) == "NOT_PERMITTED"
    await grant(world, admin, person, "auditor")
    refresh = sign_in_pb2.RefreshRequest(refresh_token=person.tokens.refresh_token)
    renewed = Person((await world.sign_in_service.Refresh(refresh)).tokens)
    await world.users.ListUsers(ask, metadata=renewed.bearer)
    caller = world.lab.hosted.tools["identity"].verifier.caller(renewed.bearer[0][1], "")
    assert caller.roles == {"user", "auditor"}


async def test_revoked_role_is_gone_from_the_next_token(world: World) -> None:
    person = await clerk(world, "identity.users.read")
    admin = await world.admin()
    take = pb.RevokeRoleRequest(user_id=person.user_id, role=f"clerk-{world.tag}")
    for _ in range(2):
        await world.roles.RevokeRole(take, metadata=admin.bearer)
    refresh = sign_in_pb2.RefreshRequest(refresh_token=person.tokens.refresh_token)
    renewed = Person((await world.sign_in_service.Refresh(refresh)).tokens)
    ask = user_pb2.ListUsersRequest()
    assert await refused(world.users.ListUsers(ask, metadata=renewed.bearer)) == "NOT_PERMITTED"


async def test_deleted_role_is_taken_from_everyone(world: World) -> None:
    person = await clerk(world, "identity.users.read")
    admin = await world.admin()
    await world.roles.DeleteRole(pb.DeleteRoleRequest(role=f"clerk-{world.tag}"), metadata=admin.bearer)
    read = user_pb2.GetUserRequest(user_id=person.user_id)
    assert list((await world.users.GetUser(read, metadata=admin.bearer)).user.roles) == ["user"]


async def test_nobody_hands_on_what_they_lack(world: World) -> None:
    person = await clerk(world, "identity.roles.*", "billing.invoices.read")
    other = await world.person()
    beyond = "BEYOND_OWN_PERMISSIONS"
    assert await refused(grant(world, person, other, "admin")) == beyond
    assert await refused(create(world, person, f"bad-{world.tag}", "billing.*")) == beyond
    await create(world, person, f"good-{world.tag}", "billing.invoices.read", "identity.roles.grant")
    await grant(world, person, other, f"good-{world.tag}")
    widen = pb.UpdateRoleRequest(role=f"good-{world.tag}", permissions=["*"])
    assert await refused(world.roles.UpdateRole(widen, metadata=person.bearer)) == beyond


async def test_role_of_everyone_is_not_taken_and_unknown_ones_are_not_found(world: World) -> None:
    person, admin = await world.person(), await world.admin()
    take = pb.RevokeRoleRequest(user_id=person.user_id, role="user")
    assert await refused(world.roles.RevokeRole(take, metadata=admin.bearer)) == "ROLE_OF_EVERYONE"
    assert await refused(grant(world, admin, person, "no-such-role")) == "ROLE_NOT_FOUND"


async def test_name_is_taken_once_and_etag_guards_changes(world: World) -> None:
    admin, name = await world.admin(), f"once-{world.tag}"
    role = await create(world, admin, name, "a.b.c")
    assert await refused(create(world, admin, name)) == "ROLE_EXISTS"
    change = pb.UpdateRoleRequest(role=name, permissions=["a.b.d"], etag=role.etag)
    await world.roles.UpdateRole(change, metadata=admin.bearer)
    assert await refused(world.roles.UpdateRole(change, metadata=admin.bearer)) == "ETAG_MISMATCH"


async def test_permission_that_is_no_name_is_refused(world: World) -> None:
    admin = await world.admin()
    for wrong in ("", "A.b", "a..b", "a.*.b", "a b", "**"):
        assert await refused(create(world, admin, f"x-{world.tag}", wrong)) == "MALFORMED"
