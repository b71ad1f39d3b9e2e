"""Sessions are listed, prolonged once per refresh token, and ended for good."""

from uuid import uuid4

from tests.identity.people import Person, World, outcomes, refused
from weft.identity.v1 import role_pb2, session_pb2 as pb, sign_in_pb2, user_pb2
from weft.identity.v1.activity_pb2 import ListActivityRequest


async def refresh(world: World, token: str) -> Person:
    request = sign_in_pb2.RefreshRequest(refresh_token=token)
    return Person((await world.sign_in_service.Refresh(request)).tokens)


async def is_open(world: World, person: Person) -> bool:
    request = pb.CheckSessionRequest(session_id=person.tokens.session_id)
    answer = await world.sessions.CheckSession(request, metadata=world.lab.as_service())
    return bool(answer.open)


async def test_refresh_token_brings_new_ones_of_the_same_session(world: World) -> None:
    person = await world.person()
    renewed = await refresh(world, person.tokens.refresh_token)
    assert renewed.tokens.session_id == person.tokens.session_id
    assert renewed.tokens.refresh_token != person.tokens.refresh_token
    await world.users.GetMe(user_pb2.GetMeRequest(), metadata=renewed.bearer)


async def test_second_use_of_a_refresh_token_ends_the_family(world: World) -> None:
    person = await world.person()
    renewed = await refresh(world, person.tokens.refresh_token)
    assert await refused(refresh(world, person.tokens.refresh_token)) == "REFRESH_REFUSED"
    assert await refused(refresh(world, renewed.tokens.refresh_token)) == "REFRESH_REFUSED"
    assert not await is_open(world, person)


async def test_one_of_64_parallel_refreshes_succeeds(world: World) -> None:
    person = await world.person()
    calls = [refresh(world, person.tokens.refresh_token) for _ in range(64)]
    assert await outcomes(*calls) == (1, {"REFRESH_REFUSED"})
    assert not await is_open(world, person)


async def test_session_ends_absolutely_however_often_it_is_refreshed(world: World) -> None:
    person = await world.person()
    for _ in range(3):
        world.clock.advance(9 * 86_400)
        person = await refresh(world, person.tokens.refresh_token)
    world.clock.advance(4 * 86_400)
    assert await refused(refresh(world, person.tokens.refresh_token)) == "REFRESH_REFUSED"


async def test_refresh_token_that_rested_two_weeks_is_void(world: World) -> None:
    person = await world.person()
    world.clock.advance(14 * 86_400 + 1)
    assert await refused(refresh(world, person.tokens.refresh_token)) == "REFRESH_REFUSED"


async def test_mangled_refresh_token_is_refused(world: World) -> None:
    assert await refused(refresh(world, "not a refresh token of ours")) == "REFRESH_REFUSED"


async def test_signed_out_session_is_over(world: World) -> None:
    person = await world.person()
    assert await is_open(world, person)
    await world.sign_in_service.SignOut(sign_in_pb2.SignOutRequest(), metadata=person.bearer)
    assert not await is_open(world, person)
    assert await refused(refresh(world, person.tokens.refresh_token)) == "REFRESH_REFUSED"


async def test_owner_lists_and_ends_sessions(world: World) -> None:
    here = await world.person()
    there = await world.sign_in(agent="Mozilla/5.0 (iPhone) Safari/605.1")
    ask = pb.ListSessionsRequest(user_id=here.user_id)
    listed = (await world.sessions.ListSessions(ask, metadata=here.bearer)).sessions
    assert [(s.device.name, s.current) for s in listed] == [("Safari on iPhone", False), ("tests", True)]
    end = pb.RevokeSessionRequest(user_id=here.user_id, session_id=there.tokens.session_id)
    await world.sessions.RevokeSession(end, metadata=here.bearer)
    assert [await is_open(world, there), await is_open(world, here)] == [False, True]


async def test_owner_ends_every_other_session(world: World) -> None:
    here = await world.person()
    others = [await world.sign_in() for _ in range(3)]
    end = pb.RevokeSessionsRequest(user_id=here.user_id, keep_current=True)
    assert (await world.sessions.RevokeSessions(end, metadata=here.bearer)).revoked == 3
    assert [await is_open(world, other) for other in others] == [False] * 3
    assert await is_open(world, here)


async def test_nobody_sees_or_ends_the_sessions_of_another(world: World) -> None:
    ada, bob = await world.person(), await world.person(world.at("bob"))
    ask = pb.ListSessionsRequest(user_id=ada.user_id)
    assert await refused(world.sessions.ListSessions(ask, metadata=bob.bearer)) == "NOT_PERMITTED"
    end = pb.RevokeSessionRequest(user_id=bob.user_id, session_id=ada.tokens.session_id)
    assert await refused(world.sessions.RevokeSession(end, metadata=bob.bearer)) == "SESSION_NOT_FOUND"


async def test_oldest_session_goes_when_there_are_too_many(world: World) -> None:
    first = await world.person()
    second = await world.sign_in()
    for _ in range(49):
        await world.sign_in()
    assert [await is_open(world, first), await is_open(world, second)] == [False, True]


async def test_check_is_for_services_of_the_mesh(world: World) -> None:
    person = await world.person()
    ask = pb.CheckSessionRequest(session_id=person.tokens.session_id)
    assert await refused(world.sessions.CheckSession(ask, metadata=person.bearer)) == "MESH_ONLY"


async def test_unknown_session_is_not_open(world: World) -> None:
    ask = pb.CheckSessionRequest(session_id=str(uuid4()))
    answer = await world.sessions.CheckSession(ask, metadata=world.lab.as_service())
    assert (answer.open, answer.user_id) == (False, "")


async def support(world: World) -> Person:
    """Somebody of support, whose role lets them act as others."""

    helper = await world.person(world.at("help"))
    admin = await world.admin()
    grant = role_pb2.GrantRoleRequest(user_id=helper.user_id, role="support")
    await world.roles.GrantRole(grant, metadata=admin.bearer)
    return await world.sign_in(world.at("help"))


async def impersonate(world: World, helper: Person, user_id: str, **fields: object) -> Person:
    request = pb.ImpersonateRequest(user_id=user_id, reason="Ticket 4711: cannot see the invoice", **fields)
    return Person((await world.sessions.Impersonate(request, metadata=helper.bearer)).tokens)


async def test_impersonation_acts_as_the_person_and_says_so(world: World) -> None:
    ada, helper = await world.person(), await support(world)
    acting = await impersonate(world, helper, ada.user_id)
    caller = world.lab.hosted.tools["identity"].verifier.caller(acting.bearer[0][1], "")
    assert (caller.subject, caller.acting) == (ada.user_id, helper.user_id)
    assert acting.tokens.refresh_token == ""
    me = (await world.users.GetMe(user_pb2.GetMeRequest(), metadata=acting.bearer)).user
    assert me.user_id == ada.user_id
    for person, kind in ((ada, 23), (helper, 24)):
        ask = ListActivityRequest(user_id=person.user_id)
        entries = (await world.activity.ListActivity(ask, metadata=person.bearer)).activities
        assert [entry.actor for entry in entries if entry.kind == kind] == [f"user:{helper.user_id}"]


async def test_impersonation_is_kept_out_of_what_must_be_done_in_person(world: World) -> None:
    ada, helper = await world.person(), await support(world)
    acting = await impersonate(world, helper, ada.user_id)
    delete = user_pb2.DeleteUserRequest(user_id=ada.user_id)
    assert await refused(world.users.DeleteUser(delete, metadata=acting.bearer)) == "IMPERSONATION_REFUSED"


async def test_impersonation_ends_after_its_time(world: World) -> None:
    ada, helper = await world.person(), await support(world)
    acting = await impersonate(world, helper, ada.user_id)
    assert acting.tokens.session_expire_time.ToDatetime().timestamp() - _now(world) <= 900
    world.clock.advance(901)
    assert not await is_open(world, acting)
    assert await refused(world.users.GetMe(user_pb2.GetMeRequest(), metadata=acting.bearer)) == "BAD_TOKEN"


async def test_nobody_acts_as_somebody_who_may_do_more(world: World) -> None:
    helper, admin = await support(world), await world.admin()
    assert await refused(impersonate(world, helper, admin.user_id)) == "BEYOND_OWN_PERMISSIONS"
    assert await refused(impersonate(world, helper, helper.user_id)) == "SELF_IMPERSONATION"


async def test_impersonated_administrator_rules_over_nobody(world: World) -> None:
    admin = await world.admin()
    other = await world.person(world.at("second"))

    grant = role_pb2.GrantRoleRequest(user_id=other.user_id, role="admin")
    await world.roles.GrantRole(grant, metadata=admin.bearer)
    acting = await impersonate(world, admin, other.user_id)
    ask = user_pb2.ListUsersRequest()
    assert await refused(world.users.ListUsers(ask, metadata=acting.bearer)) == "NOT_PERMITTED"


async def test_impersonation_wants_the_permission_and_a_reason(world: World) -> None:
    ada, bob = await world.person(), await world.person(world.at("bob"))
    assert await refused(impersonate(world, bob, ada.user_id)) == "NOT_PERMITTED"
    helper = await support(world)
    bare = pb.ImpersonateRequest(user_id=ada.user_id, reason="why not")
    assert await refused(world.sessions.Impersonate(bare, metadata=helper.bearer)) == "MALFORMED"


def _now(world: World) -> float:
    return world.clock.now().replace(tzinfo=None).timestamp()
