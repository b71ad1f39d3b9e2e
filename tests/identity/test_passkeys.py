"""A passkey signs its owner in, and nothing that only looks like one does."""

from typing import Any

import pytest

from services.chassis.clock import uuid7
from tests.identity.authenticator import PRESENT, Authenticator
from tests.identity.people import Person, World, outcomes, refused
from weft.identity.v1 import passkey_pb2 as pb
from weft.identity.v1.passkey_pb2_grpc import PasskeyServiceStub


@pytest.fixture
def passkeys(world: World) -> Any:
    return PasskeyServiceStub(world.lab.channel)


async def added(passkeys: Any, person: Person, authenticator: Authenticator, name: str = "") -> pb.Passkey:
    asked = await passkeys.StartPasskeyRegistration(
        pb.StartPasskeyRegistrationRequest(), metadata=person.bearer
    )
    credential = authenticator.create(asked.options)
    request = pb.CreatePasskeyRequest(challenge_id=asked.challenge_id, credential=credential, name=name)
    response = await passkeys.CreatePasskey(request, metadata=person.bearer)
    passkey: pb.Passkey = response.passkey
    return passkey


async def assertion(
    passkeys: Any, authenticator: Authenticator, ticket: str = ""
) -> pb.CompletePasskeySignInRequest:
    asked = await passkeys.StartPasskeySignIn(pb.StartPasskeySignInRequest(ticket=ticket))
    credential = authenticator.get(asked.options)
    return pb.CompletePasskeySignInRequest(
        challenge_id=asked.challenge_id, credential=credential, ticket=ticket
    )


async def test_a_passkey_signs_in_without_address_or_password(world: World, passkeys: Any) -> None:
    person, authenticator = await world.person(), Authenticator()
    passkey = await added(passkeys, person, authenticator, "Laptop")
    assert (passkey.name, passkey.HasField("last_use_time")) == ("Laptop", False)
    response = await passkeys.CompletePasskeySignIn(await assertion(passkeys, authenticator))
    assert response.tokens.user_id == person.user_id
    session = await world.lab.db("identity").fetchrow(
        "select amr from session where session_id = $1", response.tokens.session_id
    )
    assert session["amr"] == ["hwk", "user", "mfa"]
    listed = await passkeys.ListPasskeys(
        pb.ListPasskeysRequest(user_id=person.user_id), metadata=person.bearer
    )
    assert [each.HasField("last_use_time") for each in listed.passkeys] == [True]


async def test_a_challenge_is_good_once_among_64_parallel_uses(world: World, passkeys: Any) -> None:
    authenticator = Authenticator()
    await added(passkeys, await world.person(), authenticator)
    request = await assertion(passkeys, authenticator)
    answered, reasons = await outcomes(*(passkeys.CompletePasskeySignIn(request) for _ in range(64)))
    assert (answered, reasons) == (1, {"CHALLENGE_REFUSED"})


async def test_a_challenge_is_void_after_five_minutes(world: World, passkeys: Any) -> None:
    authenticator = Authenticator()
    await added(passkeys, await world.person(), authenticator)
    request = await assertion(passkeys, authenticator)
    world.clock.advance(301)
    assert await refused(passkeys.CompletePasskeySignIn(request)) == "CHALLENGE_REFUSED"


LIES: dict[str, dict[str, Any]] = {
    "another origin": {"origin": "https://evil.test"},
    "another port": {"origin": "https://localhost:9999"},
    "another relying party": {"rp_id": "evil.test"},
    "no person verified": {"flags": PRESENT},
    "a frame of another site": {"cross_origin": True},
    "another key": {"key": Authenticator().key},
    "another person's handle": {"handle": uuid7().bytes},
    "an unknown credential": {"credential_id": b"unknown"},
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
async def test_an_assertion_that_lies_signs_nobody_in(
    world: World, passkeys: Any, lie: dict[str, Any]
) -> None:
    authenticator = Authenticator()
    await added(passkeys, await world.person(), authenticator)
    for name, value in lie.items():
        setattr(authenticator, name, value)
    request = await assertion(passkeys, authenticator)
    assert await refused(passkeys.CompletePasskeySignIn(request)) == "PASSKEY_SIGN_IN_REFUSED"


async def test_a_registration_that_lies_is_refused(world: World, passkeys: Any) -> None:
    person = await world.person()
    for authenticator in (
        Authenticator(origin="https://evil.test"),
        Authenticator(rp_id="evil.test"),
        Authenticator(flags=PRESENT),
        Authenticator(cross_origin=True),
    ):
        assert await refused(added(passkeys, person, authenticator)) == "PASSKEY_REFUSED"


async def test_a_challenge_of_one_kind_or_person_is_none_of_another(world: World, passkeys: Any) -> None:
    ada, authenticator = await world.person(), Authenticator()
    bob = await world.person(world.at("bob"))
    asked = await passkeys.StartPasskeyRegistration(pb.StartPasskeyRegistrationRequest(), metadata=ada.bearer)
    created = authenticator.create(asked.options)
    request = pb.CreatePasskeyRequest(challenge_id=asked.challenge_id, credential=created)
    assert await refused(passkeys.CreatePasskey(request, metadata=bob.bearer)) == "CHALLENGE_REFUSED"
    await added(passkeys, ada, authenticator)
    asked = await passkeys.StartPasskeyRegistration(pb.StartPasskeyRegistrationRequest(), metadata=ada.bearer)
    sign_in = pb.CompletePasskeySignInRequest(
        challenge_id=asked.challenge_id, credential=authenticator.get(asked.options)
    )
    assert await refused(passkeys.CompletePasskeySignIn(sign_in)) == "CHALLENGE_REFUSED"


async def test_a_counter_that_goes_back_is_a_clone(world: World, passkeys: Any) -> None:
    person, authenticator = await world.person(), Authenticator()
    await added(passkeys, person, authenticator)
    for _ in range(2):
        await passkeys.CompletePasskeySignIn(await assertion(passkeys, authenticator))
    authenticator.counter = 0
    request = await assertion(passkeys, authenticator)
    assert await refused(passkeys.CompletePasskeySignIn(request)) == "PASSKEY_SIGN_IN_REFUSED"
    events = await world.lab.db("identity").fetch(
        "select 1 from event where type = 'weft.identity.v1.PasskeyCloneSuspected' and key = $1",
        person.user_id,
    )
    assert len(events) == 1


async def test_an_authenticator_without_counter_signs_in_again_and_again(world: World, passkeys: Any) -> None:
    authenticator = Authenticator(counts=False)
    await added(passkeys, await world.person(), authenticator)
    for _ in range(2):
        await passkeys.CompletePasskeySignIn(await assertion(passkeys, authenticator))


async def test_a_passkey_takes_the_second_step_of_its_own_account_only(world: World, passkeys: Any) -> None:
    ada, hers, his = await world.person(), Authenticator(), Authenticator()
    bob = await world.person(world.at("bob"))
    await added(passkeys, ada, hers)
    await added(passkeys, bob, his)
    await world.enrol(ada)
    ticket = await world.ticket()
    request = await assertion(passkeys, his, ticket)
    assert await refused(passkeys.CompletePasskeySignIn(request)) == "PASSKEY_SIGN_IN_REFUSED"
    request = await assertion(passkeys, hers, ticket)
    response = await passkeys.CompletePasskeySignIn(request)
    assert response.tokens.user_id == ada.user_id
    request = await assertion(passkeys, hers)
    request.ticket = ticket
    assert await refused(passkeys.CompletePasskeySignIn(request)) == "TICKET_REFUSED"


async def test_a_disabled_account_is_not_signed_in(world: World, passkeys: Any) -> None:
    person, authenticator = await world.person(), Authenticator()
    await added(passkeys, person, authenticator)
    await world.lab.db("identity").execute(
        "update person set state = 'disabled' where user_id = $1", person.user_id
    )
    request = await assertion(passkeys, authenticator)
    assert await refused(passkeys.CompletePasskeySignIn(request)) == "PASSKEY_SIGN_IN_REFUSED"


async def test_a_removed_passkey_signs_nobody_in(world: World, passkeys: Any) -> None:
    person, authenticator = await world.person(), Authenticator()
    passkey = await added(passkeys, person, authenticator)
    again = added(passkeys, person, authenticator)
    assert await refused(again) == "PASSKEY_EXISTS"
    delete = pb.DeletePasskeyRequest(user_id=person.user_id, passkey_id=passkey.passkey_id)
    other = await world.person(world.at("bob"))
    assert await refused(passkeys.DeletePasskey(delete, metadata=other.bearer)) == "NOT_PERMITTED"
    await passkeys.DeletePasskey(delete, metadata=person.bearer)
    request = await assertion(passkeys, authenticator)
    assert await refused(passkeys.CompletePasskeySignIn(request)) == "PASSKEY_SIGN_IN_REFUSED"


async def test_a_passkey_steps_its_own_session_up(world: World, passkeys: Any) -> None:
    person, authenticator = await world.person(), Authenticator()
    await added(passkeys, person, authenticator)
    world.clock.advance(200)
    person = await world.sign_in()
    asked = await passkeys.StartPasskeySignIn(pb.StartPasskeySignInRequest())
    request = pb.StepUpByPasskeyRequest(
        challenge_id=asked.challenge_id, credential=authenticator.get(asked.options)
    )
    response = await passkeys.StepUpByPasskey(request, metadata=person.bearer)
    assert response.tokens.session_id == person.tokens.session_id
    assert not response.tokens.refresh_token
