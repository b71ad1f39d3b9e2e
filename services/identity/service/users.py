"""weft.identity.v1.UserService."""

from typing import Any
from uuid import UUID

from services.chassis.clock import uuid7
from services.chassis.db import Tx
from services.chassis.masks import EtagMismatch, masked_paths
from services.chassis.method import Call
from services.identity.domain import password as passwords, user as rules
from services.identity.domain.role import EVERYONE
from services.identity.domain.user import EmailTaken, Person
from services.identity.service.erasing import erase
from services.identity.service.governing import require_other_admin, require_rule_over
from services.identity.service.journal import Entry
from services.identity.service.proving import Prover
from services.identity.service.registration import open_account, profile_of
from services.identity.service.roles import grant_role
from services.identity.service.shared import Shared, own_id
from services.identity.store import attempts, user as store
from services.identity.store.directory import Directory
from weft.identity.v1 import user_pb2 as pb
from weft.identity.v1.activity_pb2 import ActivityKind
from weft.identity.v1.events_pb2 import (
    RevocationCause,
    UserDisabled,
    UserEnabled,
    UserOrigin,
    UserUnlocked,
    UserUpdated,
)
from weft.identity.v1.user_pb2_grpc import UserServiceServicer

PATHS = ("display_name", "locale", "zone")


class Users(UserServiceServicer):
    def __init__(self, shared: Shared, prover: Prover) -> None:
        self._shared, self._prover = shared, prover
        self._directory = Directory(shared.db)

    async def GetMe(self, request: pb.GetMeRequest, call: Call) -> pb.GetMeResponse:
        row = await self._directory.one(own_id(call))
        return pb.GetMeResponse(user=to_pb(row))

    async def GetUser(self, request: pb.GetUserRequest, call: Call) -> pb.GetUserResponse:
        return pb.GetUserResponse(user=to_pb(await self._directory.one(UUID(request.user_id))))

    async def BatchGetUsers(self, request: pb.BatchGetUsersRequest, call: Call) -> pb.BatchGetUsersResponse:
        rows = await self._directory.many([UUID(user_id) for user_id in request.user_ids])
        return pb.BatchGetUsersResponse(users=[to_pb(row) for row in rows.values()])

    async def ListUsers(self, request: pb.ListUsersRequest, call: Call) -> pb.ListUsersResponse:
        page = store.LISTING.page(request, self._shared.tools.settings.mesh_key)
        async with self._shared.db.transaction() as tx:
            people, token = page.cut(await store.page(tx, page))
        rows = await self._directory.many([person.user_id for person in people])
        users = [to_pb(rows[person.user_id]) for person in people]
        return pb.ListUsersResponse(users=users, next_page_token=token)

    async def CreateUser(self, request: pb.CreateUserRequest, call: Call) -> pb.CreateUserResponse:
        shared, now = self._shared, self._shared.clock.now()
        email, profile = rules.checked_email(request.email), profile_of(request.profile)
        user_id = UUID(request.user_id) if request.user_id else uuid7(now)
        hash_ = ""
        if request.password:
            least, common = shared.settings.password_chars_min, shared.lists.common_passwords
            passwords.check(request.password, least, common, (email, profile["display_name"]))
            hash_ = await shared.hasher.hash(request.password)
        async with shared.db.transaction() as tx:
            free = await store.claim_email(tx, email)  # First: a repeat waits for what it repeats.
            person = await tx.get(Person, user_id)
            if person is None:
                if not free:
                    raise EmailTaken
                person = rules.created(user_id, email, profile, now)
                await open_account(tx, shared, person, UserOrigin.USER_ORIGIN_ADMINISTRATOR, hash_)
                for role in sorted(set(request.roles) - {EVERYONE}):
                    await grant_role(tx, shared, call.caller, user_id, role)
            elif person.email_key != rules.email_key(email):
                raise EmailTaken
        return pb.CreateUserResponse(user=to_pb(await self._directory.one(person.user_id)))

    async def UpdateUser(self, request: pb.UpdateUserRequest, call: Call) -> pb.UpdateUserResponse:
        paths = masked_paths(request.profile, request.update_mask, PATHS)
        profile = {name: getattr(request.profile, name) for name in PATHS}
        rules.check_profile(profile, paths)
        async with self._shared.db.transaction() as tx:
            person = await store.living(tx, UUID(request.user_id), lock=True)
            if request.etag and request.etag != person.etag:
                raise EtagMismatch(current=person.etag, given=request.etag)
            if changed := [path for path in paths if getattr(person, path) != profile[path]]:
                for path in changed:
                    setattr(person, path, profile[path] or rules.DEFAULTS[path])
                person.changed(self._shared.clock.now())
                await self._note_update(tx, person, [f"profile.{path}" for path in changed])
        return pb.UpdateUserResponse(user=to_pb(await self._directory.one(person.user_id)))

    async def GetPreferences(
        self, request: pb.GetPreferencesRequest, call: Call
    ) -> pb.GetPreferencesResponse:
        async with self._shared.db.transaction() as tx:
            person = await store.living(tx, UUID(request.user_id))
        return pb.GetPreferencesResponse(preferences=person.preferences)

    async def UpdatePreferences(
        self, request: pb.UpdatePreferencesRequest, call: Call
    ) -> pb.UpdatePreferencesResponse:
        async with self._shared.db.transaction() as tx:
            person = await store.living(tx, UUID(request.user_id), lock=True)
            merged = rules.merged_preferences(person.preferences, request.set, request.remove)
            names = sorted({*merged, *person.preferences})
            changed = [name for name in names if merged.get(name) != person.preferences.get(name)]
            if changed:
                person.preferences = merged
                person.changed(self._shared.clock.now())
                await self._note_update(tx, person, [f"preferences.{name}" for name in changed])
        return pb.UpdatePreferencesResponse(preferences=merged)

    async def DisableUser(self, request: pb.DisableUserRequest, call: Call) -> pb.DisableUserResponse:
        user_id, now = UUID(request.user_id), self._shared.clock.now()
        async with self._shared.db.transaction() as tx:
            person = await store.living(tx, user_id, lock=True)
            await require_rule_over(tx, call.caller, user_id)
            if person.state == rules.ACTIVE:
                await require_other_admin(tx, user_id)
                person.state = rules.DISABLED
                person.changed(now)
                entry = Entry(user_id=user_id, kind=ActivityKind.ACTIVITY_KIND_DISABLED)
                await self._shared.journal.write(tx, entry, UserDisabled(user_id=request.user_id))
                await self._end_sessions(tx, request.user_id, RevocationCause.REVOCATION_CAUSE_USER_DISABLED)
        return pb.DisableUserResponse(user=to_pb(await self._directory.one(person.user_id)))

    async def EnableUser(self, request: pb.EnableUserRequest, call: Call) -> pb.EnableUserResponse:
        user_id = UUID(request.user_id)
        async with self._shared.db.transaction() as tx:
            person = await store.living(tx, user_id, lock=True)
            await require_rule_over(tx, call.caller, user_id)
            if person.state == rules.DISABLED:
                person.state = rules.ACTIVE
                person.changed(self._shared.clock.now())
                entry = Entry(user_id=user_id, kind=ActivityKind.ACTIVITY_KIND_ENABLED)
                await self._shared.journal.write(tx, entry, UserEnabled(user_id=request.user_id))
        return pb.EnableUserResponse(user=to_pb(await self._directory.one(person.user_id)))

    async def UnlockUser(self, request: pb.UnlockUserRequest, call: Call) -> pb.UnlockUserResponse:
        async with self._shared.db.transaction() as tx:
            person = await store.living(tx, UUID(request.user_id))
            keys = self._prover.account_key(person.email_key or ""), self._prover.second_key(person)
            await attempts.forget(tx, *keys)
            entry = Entry(user_id=person.user_id, kind=ActivityKind.ACTIVITY_KIND_UNLOCKED)
            await self._shared.journal.write(tx, entry, UserUnlocked(user_id=request.user_id))
        return pb.UnlockUserResponse()

    async def DeleteUser(self, request: pb.DeleteUserRequest, call: Call) -> pb.DeleteUserResponse:
        user_id = UUID(request.user_id)
        async with self._shared.db.transaction() as tx:
            person = await store.get(tx, user_id, lock=True)
            if person.state != rules.ERASED:
                await require_rule_over(tx, call.caller, user_id)
                await require_other_admin(tx, user_id)
                await erase(tx, self._shared, self._prover, person)
        return pb.DeleteUserResponse()

    async def _note_update(self, tx: Tx, person: Person, paths: list[str]) -> None:
        entry = Entry(user_id=person.user_id, kind=ActivityKind.ACTIVITY_KIND_PROFILE_CHANGED)
        await self._shared.journal.write(tx, entry, UserUpdated(user_id=str(person.user_id), paths=paths))

    async def _end_sessions(self, tx: Tx, subject: str, cause: "RevocationCause.ValueType") -> None:
        await self._shared.issuer.end_all(tx, subject, cause)


STATES = {
    rules.ACTIVE: pb.UserState.USER_STATE_ACTIVE,
    rules.DISABLED: pb.UserState.USER_STATE_DISABLED,
    rules.ERASED: pb.UserState.USER_STATE_ERASED,
}


def to_pb(row: Any) -> pb.User:
    """From a row of the directory."""
    user = pb.User(
        user_id=str(row["user_id"]),
        email=row["email"] or "",
        profile=pb.Profile(display_name=row["display_name"], locale=row["locale"], zone=row["zone"]),
        state=STATES[row["state"]],
        roles=[] if row["state"] == rules.ERASED else sorted([EVERYONE, *row["roles"]]),
        second_factor=row["second_factor"],
        etag=rules.etag(row["revision"]),
    )
    user.create_time.FromDatetime(row["created_at"])
    user.update_time.FromDatetime(row["updated_at"])
    return user
