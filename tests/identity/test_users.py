"""Accounts are read and changed by their owners and by administrators, and erased for good."""

import asyncio
import json
from uuid import uuid4

import pytest

from tests.chassis.waiting import until
from tests.data import shared
from tests.identity.people import PASSWORD, Person, World, outcomes, refused
from weft.identity.v1 import email_pb2, password_pb2, role_pb2, user_pb2 as pb
from weft.identity.v1.sign_in_pb2 import ConfirmRegistrationRequest
from weft.identity.v1.user_import_pb2 import ImportedUser, ImportUsersRequest

BATCH = 100
HOLD = "select pg_advisory_xact_lock(hashtextextended('identity.email:' || $1, 0))"
WAITING = """
select count(*) from pg_locks where locktype = 'advisory' and not granted
and database = (select oid from pg_database where datname = current_database())
"""


async def rename(world: World, person: Person, name: str, etag: str = "") -> pb.User:
    profile = pb.Profile(display_name=name)
    request = pb.UpdateUserRequest(user_id=person.user_id, profile=profile, etag=etag)
    response = await world.users.UpdateUser(request, metadata=person.bearer)
    user: pb.User = response.user
    return user


async def test_naughty_display_names_come_back_byte_for_byte_or_break_a_rule(world: World) -> None:
    admin, kept, refusals = await world.admin(), {}, 0
    names = json.loads(shared("15_rpc_http/blns.json").read_text())
    for first in range(0, len(names), BATCH):
        users = [
            ImportedUser(
                user_id=str(uuid4()), email=world.at(f"n{first + n}"), profile=pb.Profile(display_name=name)
            )
            for n, name in enumerate(names[first : first + BATCH])
        ]
        response = await world.imports.ImportUsers(ImportUsersRequest(users=users), metadata=admin.bearer)
        reasons = [result.reason for result in response.results]
        refusals += reasons.count("PROFILE_REFUSED")
        kept |= {u.user_id: u.profile.display_name for u, why in zip(users, reasons, strict=True) if not why}
    assert (refusals, len(kept)) == (24, 491)
    ids = list(kept)
    for first in range(0, len(ids), BATCH):
        several = pb.BatchGetUsersRequest(user_ids=ids[first : first + BATCH])
        for user in (await world.users.BatchGetUsers(several, metadata=admin.bearer)).users:
            assert user.profile.display_name.encode() == kept.pop(user.user_id).encode()
    assert not kept


async def test_owner_changes_the_profile_field_by_field(world: World) -> None:
    person = await world.person()
    profile = pb.Profile(locale="de-AT", zone="Europe/Vienna", display_name="not taken over")
    request = pb.UpdateUserRequest(
        user_id=person.user_id, profile=profile, update_mask={"paths": ["locale", "zone"]}
    )
    user = (await world.users.UpdateUser(request, metadata=person.bearer)).user
    found = (user.profile.display_name, user.profile.locale, user.profile.zone)
    assert found == ("Ada", "de-AT", "Europe/Vienna")


async def test_zone_that_is_none_is_refused(world: World) -> None:
    person = await world.person()
    request = pb.UpdateUserRequest(user_id=person.user_id, profile=pb.Profile(zone="Mars/Olympus"))
    assert await refused(world.users.UpdateUser(request, metadata=person.bearer)) == "PROFILE_REFUSED"


async def test_change_of_what_was_changed_meanwhile_is_refused(world: World) -> None:
    person = await world.person()
    read = (await world.users.GetMe(pb.GetMeRequest(), metadata=person.bearer)).user
    await rename(world, person, "Augusta", read.etag)
    assert await refused(rename(world, person, "Byron", read.etag)) == "ETAG_MISMATCH"


async def test_nobody_reads_or_changes_the_account_of_another(world: World) -> None:
    ada, bob = await world.person(), await world.person(world.at("bob"))
    read = pb.GetUserRequest(user_id=ada.user_id)
    assert await refused(world.users.GetUser(read, metadata=bob.bearer)) == "NOT_PERMITTED"
    assert await refused(rename(world, Person(_as(ada, bob)), "Bob was here")) == "NOT_PERMITTED"
    assert await refused(world.users.ListUsers(pb.ListUsersRequest(), metadata=bob.bearer)) == "NOT_PERMITTED"


def _as(whose: Person, by: Person):  # type: ignore[no-untyped-def] # A TokenPair.
    tokens = type(whose.tokens)()
    tokens.CopyFrom(by.tokens)
    tokens.user_id = whose.user_id
    return tokens


async def test_preferences_are_set_and_removed_by_name(world: World) -> None:
    person = await world.person()
    change = world.users.UpdatePreferences
    first = pb.UpdatePreferencesRequest(user_id=person.user_id, set={"theme": "dark", "size": "L"})
    await change(first, metadata=person.bearer)
    second = pb.UpdatePreferencesRequest(user_id=person.user_id, set={"size": "M"}, remove=["theme"])
    assert dict((await change(second, metadata=person.bearer)).preferences) == {"size": "M"}
    many = pb.UpdatePreferencesRequest(user_id=person.user_id, set={f"p{n}": "" for n in range(100)})
    assert await refused(change(many, metadata=person.bearer)) == "TOO_MANY_PREFERENCES"


async def test_administrator_creates_an_account_and_its_owner_sets_the_password(world: World) -> None:
    admin, user_id = await world.admin(), str(uuid4())
    profile = pb.Profile(display_name="Grace")
    request = pb.CreateUserRequest(
        user_id=user_id, email=world.at("grace"), profile=profile, roles=["auditor"]
    )
    first = (await world.users.CreateUser(request, metadata=admin.bearer)).user
    again = (await world.users.CreateUser(request, metadata=admin.bearer)).user
    assert (first, list(first.roles)) == (again, ["auditor", "user"])
    ask = password_pb2.RequestPasswordResetRequest(email=world.at("grace"))
    await world.passwords.RequestPasswordReset(ask)
    token = await world.token(world.at("grace"), "reset_password")
    await world.passwords.ResetPassword(password_pb2.ResetPasswordRequest(token=token, new_password=PASSWORD))
    await world.sign_in(world.at("grace"))


async def test_a_repeat_of_what_is_still_under_way_waits_for_it(world: World) -> None:
    """A caller's deadline passed while a commit took its time: the same id is answered the same."""
    admin, db = await world.admin(), world.lab.db("identity")
    request = pb.CreateUserRequest(
        user_id=str(uuid4()), email=world.at("grace"), profile=pb.Profile(display_name="Grace")
    )
    imported = ImportedUser(user_id=request.user_id, email=request.email, profile=request.profile)
    imports = ImportUsersRequest(users=[imported])
    async with db.fast() as tx:  # Holds all of them where they have looked for the id, or are about to.
        await tx.execute(HOLD, world.at("grace"))
        calls = [world.users.CreateUser(request, metadata=admin.bearer) for _ in range(2)]
        running = [asyncio.ensure_future(call) for call in calls]
        running.append(asyncio.ensure_future(world.imports.ImportUsers(imports, metadata=admin.bearer)))

        async def all_wait() -> bool:
            return int(await db.fetchval(WAITING)) == len(running)

        await until(all_wait)
    first, again, taken = await asyncio.gather(*running)
    assert first == again
    assert [result.reason for result in taken.results] == [""]


async def test_address_has_one_account(world: World) -> None:
    await world.person()
    admin = await world.admin()
    request = pb.CreateUserRequest(email=world.ada.upper(), profile=pb.Profile(display_name="Twin"))
    assert await refused(world.users.CreateUser(request, metadata=admin.bearer)) == "EMAIL_TAKEN"


async def test_lists_go_on_where_the_page_before_ended(world: World) -> None:
    admin = await world.admin()
    made = []
    for number in range(5):
        profile = pb.Profile(display_name=f"Number {number}")
        request = pb.CreateUserRequest(email=world.at(f"n{number}"), profile=profile)
        made.append((await world.users.CreateUser(request, metadata=admin.bearer)).user.email)
    found, token = [], ""
    while token or not found:
        ask = pb.ListUsersRequest(
            page_size=2, page_token=token, order_by="email", filter=f'email:"{world.tag}"'
        )
        page = await world.users.ListUsers(ask, metadata=admin.bearer)
        found += [user.email for user in page.users]
        token = page.next_page_token
    assert found == sorted(made)
    several = pb.BatchGetUsersRequest(user_ids=[admin.user_id, str(uuid4())])
    users = (await world.users.BatchGetUsers(several, metadata=admin.bearer)).users
    assert [user.user_id for user in users] == [admin.user_id]


async def test_list_filters_by_state(world: World) -> None:
    admin, person = await world.admin(), await world.person()
    await world.users.DisableUser(pb.DisableUserRequest(user_id=person.user_id), metadata=admin.bearer)
    ask = pb.ListUsersRequest(filter=f'state = DISABLED AND email:"{world.tag}"')
    page = await world.users.ListUsers(ask, metadata=admin.bearer)
    assert [user.user_id for user in page.users] == [person.user_id]


async def test_address_changes_by_the_code_mailed_to_the_new_one(world: World) -> None:
    person, new = await world.person(), world.at("countess")
    ask = email_pb2.ChangeEmailRequest(email=new)
    await world.emails.ChangeEmail(ask, metadata=person.bearer)
    confirm = email_pb2.ConfirmEmailChangeRequest(token=await world.token(new))
    await world.emails.ConfirmEmailChange(confirm)
    await world.sign_in(new)
    assert await refused(world.try_sign_in()) == "SIGN_IN_REFUSED"
    assert (await world.mail(world.ada, "email_changed")).values["new_address"] == new
    assert await refused(world.emails.ConfirmEmailChange(confirm)) == "CODE_REFUSED"


async def test_address_of_somebody_else_is_not_taken_over(world: World) -> None:
    person = await world.person()
    await world.person(world.at("bob"))
    ask = email_pb2.ChangeEmailRequest(email=world.at("bob"))
    await world.emails.ChangeEmail(ask, metadata=person.bearer)
    token = await world.token(world.at("bob"), nth=1)
    confirm = email_pb2.ConfirmEmailChangeRequest(token=token)
    assert await refused(world.emails.ConfirmEmailChange(confirm)) == "CODE_REFUSED"


async def test_erased_account_leaves_its_id_and_nothing_personal(world: World) -> None:
    person = await world.person()
    await world.enrol(person)
    name = f"Ada {world.tag}"
    await rename(world, person, name)
    await world.users.DeleteUser(pb.DeleteUserRequest(user_id=person.user_id), metadata=person.bearer)
    admin = await world.admin()
    read = pb.GetUserRequest(user_id=person.user_id)
    user = (await world.users.GetUser(read, metadata=admin.bearer)).user
    assert (user.state, user.email, user.profile.display_name) == (pb.UserState.USER_STATE_ERASED, "", "")
    assert await refused(world.try_sign_in()) == "SIGN_IN_REFUSED"
    db = world.lab.db("identity")
    for table in await db.fetch("select tablename from pg_tables where schemaname = 'public'"):
        rows = await db.fetch(f"select t::text from {table['tablename']} t")
        held = [row[0] for row in rows if world.tag in row[0]]
        assert not held, (table, held)


async def test_erased_address_may_be_registered_anew(world: World) -> None:
    person = await world.person()
    await world.users.DeleteUser(pb.DeleteUserRequest(user_id=person.user_id), metadata=person.bearer)
    await world.register()
    confirm = world.sign_in_service.ConfirmRegistration
    again = await confirm(ConfirmRegistrationRequest(token=await world.token(nth=1)))
    assert again.user_id != person.user_id


async def test_last_administrator_cannot_go(alone: World) -> None:
    admin = await alone.admin()
    delete = pb.DeleteUserRequest(user_id=admin.user_id)
    assert await refused(alone.users.DeleteUser(delete, metadata=admin.bearer)) == "LAST_ADMIN"
    take = role_pb2.RevokeRoleRequest(user_id=admin.user_id, role="admin")
    assert await refused(alone.roles.RevokeRole(take, metadata=admin.bearer)) == "LAST_ADMIN"


async def test_of_two_administrators_one_stays_whoever_goes_first(alone: World) -> None:
    admin, other = await alone.admin(), await alone.person()
    grant = role_pb2.GrantRoleRequest(user_id=other.user_id, role="admin")
    await alone.roles.GrantRole(grant, metadata=admin.bearer)
    goes = [
        alone.users.DeleteUser(pb.DeleteUserRequest(user_id=one.user_id), metadata=one.bearer)
        for one in (admin, other)
    ]
    assert await outcomes(*goes) == (1, {"LAST_ADMIN"})


async def test_nobody_rules_over_who_may_do_more(world: World) -> None:
    admin, clerk = await world.admin(), await world.person()
    role = f"clerk-{world.tag}"
    create = role_pb2.CreateRoleRequest(role=role, permissions=["identity.users.*"])
    await world.roles.CreateRole(create, metadata=admin.bearer)
    await world.roles.GrantRole(
        role_pb2.GrantRoleRequest(user_id=clerk.user_id, role=role), metadata=admin.bearer
    )
    clerk = await world.sign_in()
    for call, request in (
        (world.users.DisableUser, pb.DisableUserRequest(user_id=admin.user_id)),
        (world.users.DeleteUser, pb.DeleteUserRequest(user_id=admin.user_id)),
    ):
        assert await refused(call(request, metadata=clerk.bearer)) == "BEYOND_OWN_PERMISSIONS"


@pytest.mark.parametrize("email", ["no address", "a@b", "a@[127.0.0.1]", '"a b"@weft.test', "a@-b.test"])
async def test_what_is_no_address_is_refused(world: World, email: str) -> None:
    assert await refused(world.register(email)) in {"EMAIL_REFUSED", "MALFORMED"}
