"""Passwords are set by their owner only, checked against lists, and cost one Argon2 run whoever asks."""

from contextlib import suppress
from uuid import uuid4

import grpc.aio
import pytest

from tests.data import shared
from tests.identity.conftest import identity
from tests.identity.people import PASSWORD, World, outcomes, refused
from tests.identity.test_rules import foreign
from tests.servers import Shared
from weft.identity.v1 import password_pb2 as pb, user_import_pb2, user_pb2
from weft.identity.v1.user_import_pb2 import ImportedUser

NEW = "a password of another kind"


async def reset_token(world: World) -> str:
    await world.passwords.RequestPasswordReset(pb.RequestPasswordResetRequest(email=world.ada))
    return await world.token(template="reset_password")


async def test_reset_sets_the_password_and_ends_every_session(world: World) -> None:
    person = await world.person()
    reset = pb.ResetPasswordRequest(token=await reset_token(world), new_password=NEW)
    assert (await world.passwords.ResetPassword(reset)).user_id == person.user_id
    await world.sign_in(password=NEW)
    assert await refused(world.try_sign_in()) == "SIGN_IN_REFUSED"


async def test_reset_of_an_unknown_address_is_answered_and_mails_nobody(world: World) -> None:
    nobody = world.at("nobody")
    await world.passwords.RequestPasswordReset(pb.RequestPasswordResetRequest(email=nobody))
    await world.person()
    await reset_token(world)
    assert not world.mailbox.to(nobody, "reset_password")


async def test_one_of_64_parallel_resets_succeeds(world: World) -> None:
    await world.person()
    reset = pb.ResetPasswordRequest(token=await reset_token(world), new_password=NEW)
    count, reasons = await outcomes(*(world.passwords.ResetPassword(reset) for _ in range(64)))
    assert (count, reasons) == (1, {"CODE_REFUSED"})


async def test_refused_password_leaves_the_code_good(world: World) -> None:
    await world.person()
    token = await reset_token(world)
    short = pb.ResetPasswordRequest(token=token, new_password="too short")
    assert await refused(world.passwords.ResetPassword(short)) == "PASSWORD_REFUSED"
    await world.passwords.ResetPassword(pb.ResetPasswordRequest(token=token, new_password=NEW))


async def test_reset_code_is_void_after_half_an_hour_and_after_another(world: World) -> None:
    await world.person()
    first = await reset_token(world)
    await world.passwords.RequestPasswordReset(pb.RequestPasswordResetRequest(email=world.ada))
    second = await world.token(template="reset_password", nth=1)
    await world.passwords.ResetPassword(pb.ResetPasswordRequest(token=second, new_password=NEW))
    old = pb.ResetPasswordRequest(token=first, new_password=PASSWORD)
    assert await refused(world.passwords.ResetPassword(old)) == "CODE_REFUSED"
    await world.passwords.RequestPasswordReset(pb.RequestPasswordResetRequest(email=world.ada))
    third = await world.token(template="reset_password", nth=2)
    world.clock.advance(1801)
    late = pb.ResetPasswordRequest(token=third, new_password=PASSWORD)
    assert await refused(world.passwords.ResetPassword(late)) == "CODE_REFUSED"


async def test_wrong_old_password_changes_nothing(world: World) -> None:
    person = await world.person()
    change = pb.ChangePasswordRequest(password="not the old one, surely", new_password=NEW)
    assert await refused(world.passwords.ChangePassword(change, metadata=person.bearer)) == "SIGN_IN_REFUSED"
    await world.sign_in()


async def runs(world: World, email: str, password: str) -> int:
    """Argon2 computations of one sign-in, whatever its outcome."""
    hasher = world.running.shared().hasher
    before = hasher.computations
    with suppress(grpc.aio.AioRpcError):
        await world.try_sign_in(email, password)
    return hasher.computations - before


async def test_every_sign_in_costs_one_argon2_run_whoever_it_is(world: World) -> None:
    await world.person()
    disabled, locked = world.at("disabled"), world.at("locked")
    admin = await world.admin()
    gone = await world.person(disabled)
    await world.users.DisableUser(user_pb2.DisableUserRequest(user_id=gone.user_id), metadata=admin.bearer)
    await world.person(locked)
    for _ in range(5):
        await refused(world.try_sign_in(locked, "not the right one"))
    passwordless = user_pb2.CreateUserRequest(
        email=world.at("empty"), profile=user_pb2.Profile(display_name="Empty")
    )
    await world.users.CreateUser(passwordless, metadata=admin.bearer)
    wrong = "not the right one"
    cases = [(world.ada, PASSWORD), (world.ada, wrong), (world.at("nobody"), wrong), (disabled, PASSWORD)]
    cases += [(locked, PASSWORD), (locked, wrong), (world.at("empty"), wrong), ("no address", wrong)]
    assert [await runs(world, *case) for case in cases] == [1] * len(cases)


async def test_registration_costs_one_argon2_run_for_a_known_address_too(world: World) -> None:
    await world.person()
    hasher = world.running.shared().hasher
    before = hasher.computations
    await world.register()
    await world.register(world.at("new"))
    assert hasher.computations - before == 2


@pytest.mark.parametrize(
    "kind", ["bcrypt_2b", "bcrypt_2y", "argon2id", "pbkdf2", "scrypt_phc", "scrypt_django"]
)
async def test_imported_hash_signs_in_and_becomes_ours(world: World, kind: str) -> None:
    admin, user_id = await world.admin(), str(uuid4())
    user = ImportedUser(
        user_id=user_id,
        email=world.ada,
        profile=user_pb2.Profile(display_name="Ada"),
        password_hash=foreign(PASSWORD)[kind],
    )
    request = user_import_pb2.ImportUsersRequest(users=[user])
    response = await world.imports.ImportUsers(request, metadata=admin.bearer)
    assert [(result.user_id, result.reason) for result in response.results] == [(user_id, "")]
    assert await refused(world.try_sign_in(password="not the right one")) == "SIGN_IN_REFUSED"
    await world.sign_in()
    row = await world.lab.db("identity").fetchval(
        "select hash from password where user_id = $1::text::uuid", user_id
    )
    assert row.startswith("$argon2id$v=19$m=64,t=1,p=1$")
    await world.sign_in()


async def test_import_takes_what_is_good_and_names_what_is_not(world: World) -> None:
    admin = await world.admin()
    profile = user_pb2.Profile(display_name="Ada")
    cases = [
        (world.at("good"), profile, "", ""),
        (world.at("good"), profile, "", "EMAIL_TAKEN"),
        ("no address", profile, "", "EMAIL_REFUSED"),
        (world.at("nameless"), user_pb2.Profile(display_name="\u0007"), "", "PROFILE_REFUSED"),
        (world.at("md5"), profile, "md5$salt$5f4dcc3b5aa765d61d8327deb882cf99", "HASH_REFUSED"),
    ]
    users = [
        ImportedUser(user_id=str(uuid4()), email=email, profile=named, password_hash=hash_)
        for email, named, hash_, _ in cases
    ]
    request = user_import_pb2.ImportUsersRequest(users=users)
    for _ in range(2):
        response = await world.imports.ImportUsers(request, metadata=admin.bearer)
        assert [result.reason for result in response.results] == [case[3] for case in cases]


async def test_operators_lists_refuse_passwords_and_domains(postgres: str, servers: Shared) -> None:
    settings = {
        "WEFT_IDENTITY_COMMON_PASSWORDS_FILE": str(shared("11_auth/common-passwords.txt.gz")),
        "WEFT_IDENTITY_DISPOSABLE_DOMAINS_FILE": str(shared("11_auth/disposable_email_blocklist.conf.gz")),
    }
    async with identity(postgres, servers.account(), settings) as running:
        world = World(running, "lists00000")
        assert await refused(world.register(password="trustno1trustno1")) == "PASSWORD_REFUSED"
        assert await refused(world.register("ada@mailinator.com")) == "EMAIL_REFUSED"
        await world.register()
