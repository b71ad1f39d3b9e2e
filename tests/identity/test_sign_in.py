"""A sign-in tells nothing of whether an account exists, and bears only so many guesses."""

import pytest

from services.chassis.testing import until
from services.identity.domain.user import sign_in_key
from tests.identity.people import PASSWORD, Person, World, outcomes, refused
from weft.identity.v1 import (
    activity_pb2,
    password_pb2,
    session_pb2,
    sign_in_pb2 as pb,
    user_pb2,
)

WRONG = "not the right passphrase"


async def test_wrong_password_and_unknown_address_are_one_answer(world: World) -> None:
    await world.open_account()
    assert await refused(world.try_sign_in(world.ada, WRONG)) == "SIGN_IN_REFUSED"
    assert await refused(world.try_sign_in(world.at("nobody"), WRONG)) == "SIGN_IN_REFUSED"
    assert await refused(world.try_sign_in("no address at all", WRONG)) == "SIGN_IN_REFUSED"


async def test_disabled_account_is_answered_as_a_wrong_password_is(world: World) -> None:
    user_id = await world.open_account()
    admin = await world.admin()
    await world.users.DisableUser(user_pb2.DisableUserRequest(user_id=user_id), metadata=admin.bearer)
    assert await refused(world.try_sign_in()) == "SIGN_IN_REFUSED"
    await world.users.EnableUser(user_pb2.EnableUserRequest(user_id=user_id), metadata=admin.bearer)
    await world.sign_in()


async def test_password_is_the_same_in_another_unicode_form(world: World) -> None:
    await world.open_account(password="caf\u00e9 et pl\u00fbtot deux")
    await world.sign_in(password="cafe\u0301 et plu\u0302tot deux")


async def test_locked_account_is_refused_even_with_the_right_password(world: World) -> None:
    await world.open_account()
    for _ in range(5):
        assert await refused(world.try_sign_in(world.ada, WRONG)) == "SIGN_IN_REFUSED"
    assert await refused(world.try_sign_in()) == "SIGN_IN_REFUSED"
    await world.mail(world.ada, "account_locked")
    world.clock.advance(31)
    await world.sign_in()


async def test_rests_double_until_only_a_reset_helps(world: World) -> None:
    await world.open_account()
    for _ in range(100):
        await refused(world.try_sign_in(world.ada, WRONG))
        world.clock.advance(3601)
    world.clock.advance(365 * 86_400)
    assert await refused(world.try_sign_in()) == "SIGN_IN_REFUSED"
    await world.passwords.RequestPasswordReset(password_pb2.RequestPasswordResetRequest(email=world.ada))
    token = await world.token(template="reset_password")
    new = "a password of another kind"
    await world.passwords.ResetPassword(password_pb2.ResetPasswordRequest(token=token, new_password=new))
    await world.sign_in(password=new)


async def test_64_parallel_guesses_get_no_more_looks_than_the_lock_allows(world: World) -> None:
    person = await world.person()
    guesses = [world.try_sign_in(world.ada, WRONG) for _ in range(64)]
    assert await outcomes(*guesses) == (0, {"SIGN_IN_REFUSED"})
    entries = await until(lambda: failures(world, person, 5))
    assert len(entries) == 5


async def test_administrator_unlocks_an_account(world: World) -> None:
    user_id = await world.open_account()
    for _ in range(6):
        await refused(world.try_sign_in(world.ada, WRONG))
    admin = await world.admin()
    await world.users.UnlockUser(user_pb2.UnlockUserRequest(user_id=user_id), metadata=admin.bearer)
    await world.sign_in()


async def test_one_address_may_fail_only_so_often_whatever_the_account(world: World) -> None:
    for number in range(100):
        await refused(world.try_sign_in(world.at(f"user{number}"), WRONG))
    assert await refused(world.try_sign_in(world.at("another"), WRONG)) == "TOO_MANY_ATTEMPTS"
    world.clock.advance(601)
    assert await refused(world.try_sign_in(world.at("another"), WRONG)) == "SIGN_IN_REFUSED"


async def failures(world: World, person: Person, least: int = 1) -> list[activity_pb2.Activity]:
    """Failed sign-ins in the person's activity, once there are as many."""
    request = activity_pb2.ListActivityRequest(user_id=person.user_id)
    listed = await world.activity.ListActivity(request, metadata=person.bearer)
    failed = activity_pb2.ActivityKind.ACTIVITY_KIND_SIGN_IN_FAILED
    found = [entry for entry in listed.activities if entry.kind == failed]
    return found if len(found) >= least else []


async def test_failed_sign_in_shows_in_the_owners_activity(world: World) -> None:
    person = await world.person()
    await refused(world.try_sign_in(world.ada, WRONG))
    entries = await until(lambda: failures(world, person))
    assert [entry.address for entry in entries] == [world.address]


async def test_sign_in_from_a_new_device_is_told_by_mail(world: World) -> None:
    await world.open_account()
    await world.sign_in(agent="Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0")
    await world.sign_in(agent="Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0")
    await world.sign_in(agent="Mozilla/5.0 (iPhone) Safari/605.1")
    mail = await world.mail(world.ada, "new_device")
    assert mail.values["device"] == "Safari on iPhone"
    assert len(world.mailbox.to(world.ada, "new_device")) == 1


async def test_step_up_renews_the_proof_and_keeps_the_session(world: World) -> None:
    person = await world.person()
    world.clock.advance(240)
    world.lab.hosted.tools["identity"].verifier.caller(person.bearer[0][1], "")
    request = pb.StepUpRequest(password=PASSWORD)
    tokens = (await world.sign_in_service.StepUp(request, metadata=person.bearer)).tokens
    assert (tokens.session_id, tokens.refresh_token) == (person.tokens.session_id, "")
    world.clock.advance(280)
    renewed = Person(tokens)
    delete = user_pb2.DeleteUserRequest(user_id=person.user_id)
    await world.users.DeleteUser(delete, metadata=renewed.bearer)


async def test_old_proof_is_no_proof_for_what_must_be_fresh(world: World) -> None:
    person = await world.person()
    for _ in range(3):
        world.clock.advance(240)
        request = pb.RefreshRequest(refresh_token=person.tokens.refresh_token)
        person = Person((await world.sign_in_service.Refresh(request)).tokens)
    delete = user_pb2.DeleteUserRequest(user_id=person.user_id)
    assert await refused(world.users.DeleteUser(delete, metadata=person.bearer)) == "STEP_UP_REQUIRED"


async def test_changed_password_ends_the_other_sessions(world: World) -> None:
    here = await world.person()
    there = await world.sign_in()
    change = password_pb2.ChangePasswordRequest(password=PASSWORD, new_password="quite another passphrase")
    await world.passwords.ChangePassword(change, metadata=here.bearer)
    check = world.sessions.CheckSession
    service = world.lab.as_service()
    ask = session_pb2.CheckSessionRequest
    assert (await check(ask(session_id=here.tokens.session_id), metadata=service)).open
    assert not (await check(ask(session_id=there.tokens.session_id), metadata=service)).open
    assert await refused(world.try_sign_in()) == "SIGN_IN_REFUSED"
    await world.mail(world.ada, "password_changed")


@pytest.mark.parametrize(
    ("typed", "key"),
    [
        ("  Ada@Lovelace.TEST ", "ada@lovelace.test"),
        ("ada@l\u00f6velace.test", "ada@l\u00f6velace.test"),
        ("STRASSE@x.test", "strasse@x.test"),
        ("not an address", "not an address"),
    ],
)
def test_what_people_type_finds_their_account(typed: str, key: str) -> None:
    assert sign_in_key(typed) == key


async def test_a_sign_in_is_the_act_of_the_person_who_proved_themself(world: World) -> None:
    user_id = await world.open_account()
    await world.sign_in()
    query = "select actor from event where type = 'weft.identity.v1.SignedIn' and key = $1"
    assert await world.lab.db("identity").fetchval(query, user_id) == f"user:{user_id}"
