"""An account exists once its address is confirmed; known and unknown addresses are answered alike."""

import pytest

from services.chassis.testing import until
from tests.identity.people import PASSWORD, World, outcomes, refused
from weft.identity.v1 import sign_in_pb2 as pb, user_pb2


async def test_account_opens_by_the_mailed_code(world: World) -> None:
    user_id = await world.open_account(name="Ada Lovelace")
    person = await world.sign_in()
    me = (await world.users.GetMe(user_pb2.GetMeRequest(), metadata=person.bearer)).user
    assert (me.user_id, me.email, me.profile.display_name) == (user_id, world.ada, "Ada Lovelace")
    assert (me.profile.locale, me.profile.zone, list(me.roles)) == ("en", "UTC", ["user"])


async def test_nobody_signs_in_before_the_address_is_confirmed(world: World) -> None:
    await world.register()
    await world.token()
    assert await refused(world.try_sign_in()) == "SIGN_IN_REFUSED"


async def test_known_address_gets_a_notice_and_the_caller_the_same_answer(world: World) -> None:
    await world.open_account()
    await world.register(password="another good passphrase", name="Mallory")
    await world.mail(world.ada, "address_in_use")
    assert len(world.mailbox.to(world.ada, "confirm_email")) == 1
    await world.sign_in(world.ada, PASSWORD)
    assert await refused(world.try_sign_in(world.ada, "another good passphrase")) == "SIGN_IN_REFUSED"


async def test_address_is_the_same_in_another_case(world: World) -> None:
    await world.open_account(f"Ada@{world.tag}.test")
    await world.register(f"aDA@{world.tag}.TEST")
    await world.mail(f"Ada@{world.tag}.test", "address_in_use")
    await world.sign_in(f"ADA@{world.tag.upper()}.TEST")


async def test_one_of_64_parallel_confirmations_succeeds(world: World) -> None:
    await world.register()
    request = pb.ConfirmRegistrationRequest(token=await world.token())
    calls = [world.sign_in_service.ConfirmRegistration(request) for _ in range(64)]
    assert await outcomes(*calls) == (1, {"CODE_REFUSED"})


async def test_of_two_registrations_of_an_address_the_first_confirmed_wins(world: World) -> None:
    await world.register(password="the first good passphrase")
    await world.register(password="the second good passphrase")
    first, second = await world.token(nth=0), await world.token(nth=1)
    await world.sign_in_service.ConfirmRegistration(pb.ConfirmRegistrationRequest(token=second))
    late = world.sign_in_service.ConfirmRegistration(pb.ConfirmRegistrationRequest(token=first))
    assert await refused(late) == "CODE_REFUSED"


async def test_code_is_void_after_a_day(world: World) -> None:
    await world.register()
    token = await world.token()
    world.clock.advance(24 * 3600 + 1)
    late = world.sign_in_service.ConfirmRegistration(pb.ConfirmRegistrationRequest(token=token))
    assert await refused(late) == "CODE_REFUSED"


@pytest.mark.parametrize("token", ["x" * 64, "A" * 64, "=" * 40, "not a token at all, is it?"])
async def test_mangled_code_is_refused(world: World, token: str) -> None:
    late = world.sign_in_service.ConfirmRegistration(pb.ConfirmRegistrationRequest(token=token))
    assert await refused(late) == "CODE_REFUSED"


async def test_one_address_is_not_flooded_with_mail(world: World) -> None:
    for _ in range(5):
        await world.register()
    assert await refused(world.register()) == "TOO_MANY_ATTEMPTS"
    world.clock.advance(3601)
    await world.register()


async def test_the_mailed_code_is_nowhere_in_the_database(world: World) -> None:
    await world.register()
    token = await world.token()
    tables = await world.lab.db("identity").fetch(
        "select tablename from pg_tables where schemaname = 'public'"
    )
    for table in tables:
        rows = await world.lab.db("identity").fetch(f"select t::text from {table['tablename']} t")
        assert not any(token in row[0] for row in rows), table


async def test_expired_registration_is_forgotten(world: World) -> None:
    await world.register()
    await world.token()
    world.clock.advance(3 * 24 * 3600)

    async def gone() -> bool:
        return not await world.lab.db("identity").fetchval("select count(*) from registration")

    await until(gone)
