"""weft.identity.v1.ApiKeyService."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from google.protobuf.message import Message

from services.chassis.caller import Caller
from services.chassis.db import Tx
from services.chassis.events import emit
from services.chassis.method import Call
from services.identity.domain import api_key as rules
from services.identity.domain.api_key import ApiKey, ApiKeySecret, Presented
from services.identity.domain.role import require_within, union
from services.identity.domain.token import ACCOUNT, narrowed
from services.identity.service.journal import Entry
from services.identity.service.shared import Shared
from services.identity.store import (
    api_key as store,
    role as roles,
    service_account as accounts,
    user as users,
)
from weft.identity.v1 import api_key_pb2 as pb
from weft.identity.v1.activity_pb2 import ActivityKind
from weft.identity.v1.api_key_pb2_grpc import ApiKeyServiceServicer
from weft.identity.v1.credential_events_pb2 import ApiKeyCreated, ApiKeyRevoked, ApiKeyRotated


class ApiKeys(ApiKeyServiceServicer):
    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    async def CreateApiKey(self, request: pb.CreateApiKeyRequest, call: Call) -> pb.CreateApiKeyResponse:
        owner_id, now = UUID(request.owner_id), self._shared.clock.now()
        expires_at = _moment(request)
        if expires_at is not None and expires_at <= now:
            raise rules.ExpiryRefused(field="expire_time")
        async with self._shared.db.transaction() as tx:
            kind, permissions = await self._owner(tx, owner_id)
            scopes = list(request.scopes) or None
            _require_hers(call.caller, owner_id, permissions, scopes)
            await store.require_room(tx, owner_id, now)
            key = ApiKey(
                api_key_id=rules.new_id(),
                owner_id=owner_id,
                owner_kind=kind,
                name=request.name,
                scopes=scopes,
                created_at=now,
                expires_at=expires_at,
                last_used_at=None,
                revoked_at=None,
            )
            tx.add(key)
            await tx.flush()
            text = self._new_secret(tx, key, now)
            event = ApiKeyCreated(api_key_id=key.api_key_id, owner_id=request.owner_id)
            await self._note(tx, key, ActivityKind.ACTIVITY_KIND_API_KEY_CREATED, event)
        return pb.CreateApiKeyResponse(api_key=to_pb(key, None), key=text)

    async def GetApiKey(self, request: pb.GetApiKeyRequest, call: Call) -> pb.GetApiKeyResponse:
        async with self._shared.db.transaction() as tx:
            key = await store.own(tx, UUID(request.owner_id), request.api_key_id)
            return pb.GetApiKeyResponse(api_key=(await self._shown(tx, [key]))[0])

    async def ListApiKeys(self, request: pb.ListApiKeysRequest, call: Call) -> pb.ListApiKeysResponse:
        async with self._shared.db.transaction() as tx:
            keys = await store.of(tx, UUID(request.owner_id), self._shared.clock.now())
            return pb.ListApiKeysResponse(api_keys=await self._shown(tx, list(keys)))

    async def RotateApiKey(self, request: pb.RotateApiKeyRequest, call: Call) -> pb.RotateApiKeyResponse:
        now, overlap = self._shared.clock.now(), request.overlap.ToTimedelta()
        async with self._shared.db.transaction() as tx:
            key = await store.own(tx, UUID(request.owner_id), request.api_key_id)
            if not key.good(now):
                raise rules.ApiKeyVoid
            _, permissions = await self._owner(tx, key.owner_id)
            _require_hers(call.caller, key.owner_id, permissions, key.scopes)
            await self._retire(tx, key, now, overlap)
            text = self._new_secret(tx, key, now)
            event = ApiKeyRotated(api_key_id=key.api_key_id, owner_id=request.owner_id)
            await emit(tx, event)
        ends = now + overlap if overlap else None
        return pb.RotateApiKeyResponse(api_key=to_pb(key, ends), key=text)

    async def RevokeApiKey(self, request: pb.RevokeApiKeyRequest, call: Call) -> pb.RevokeApiKeyResponse:
        async with self._shared.db.transaction() as tx:
            key = await store.own(tx, UUID(request.owner_id), request.api_key_id)
            await self.revoke(tx, key)
        return pb.RevokeApiKeyResponse(api_key=to_pb(key, None))

    async def revoke(self, tx: Tx, key: ApiKey) -> None:
        """Voids a locked key, if it is not void. Emits ApiKeyRevoked."""
        if key.revoked_at is not None:
            return
        key.revoked_at = self._shared.clock.now()
        await store.forget_secrets(tx, key.api_key_id)
        event = ApiKeyRevoked(api_key_id=key.api_key_id, owner_id=str(key.owner_id))
        await self._note(tx, key, ActivityKind.ACTIVITY_KIND_API_KEY_REVOKED, event)

    async def _owner(self, tx: Tx, owner_id: UUID) -> tuple[str, frozenset[str]]:
        """Kind and permissions of an owner. Raises OwnerNotFound."""
        if await users.active(tx, owner_id):
            return rules.USER, union(await roles.of(tx, owner_id))
        if await accounts.find(tx, owner_id) is None:
            raise rules.OwnerNotFound(owner_id=owner_id)
        return rules.SERVICE_ACCOUNT, union(await accounts.roles_of(tx, owner_id))

    async def _retire(self, tx: Tx, key: ApiKey, now: datetime, overlap: timedelta) -> None:
        if overlap:
            await store.end_secrets(tx, key.api_key_id, now + overlap)
        else:
            await store.forget_secrets(tx, key.api_key_id)

    def _new_secret(self, tx: Tx, key: ApiKey, now: datetime) -> str:
        secret = rules.new_secret()
        hash_ = rules.secret_hash(self._shared.sealer, Presented(key.api_key_id, secret))
        tx.add(ApiKeySecret(hash=hash_, api_key_id=key.api_key_id, created_at=now, expires_at=None))
        return rules.whole(key.api_key_id, secret)

    async def _note(self, tx: Tx, key: ApiKey, kind: "ActivityKind.ValueType", event: Message) -> None:
        """In the activity of a person; a service account has none."""
        if key.owner_kind == rules.USER:
            await self._shared.journal.write(
                tx, Entry(user_id=key.owner_id, kind=kind, about=key.name), event
            )
        else:
            await emit(tx, event)

    async def _shown(self, tx: Tx, keys: list[ApiKey]) -> list[pb.ApiKey]:
        ends = await store.previous_ends(tx, [key.api_key_id for key in keys], self._shared.clock.now())
        return [to_pb(key, ends.get(key.api_key_id)) for key in keys]


def _require_hers(
    caller: Caller, owner_id: UUID, permissions: frozenset[str], scopes: list[str] | None
) -> None:
    """A key does nothing that its owner may not, and nobody makes one for what they lack themself.

    Raises BeyondOwnPermissions.
    """
    require_within(permissions, [scope for scope in scopes or [] if scope != ACCOUNT])
    if caller.subject != str(owner_id):
        require_within(
            caller.scope, narrowed(permissions, None if scopes is None else set(scopes)) - {ACCOUNT}
        )


def _moment(request: pb.CreateApiKeyRequest) -> datetime | None:
    if not request.HasField("expire_time"):
        return None
    return request.expire_time.ToDatetime(tzinfo=UTC)


def to_pb(key: ApiKey, previous_ends: datetime | None) -> pb.ApiKey:
    message = pb.ApiKey(
        api_key_id=key.api_key_id,
        owner_id=str(key.owner_id),
        name=key.name,
        prefix=key.prefix,
        scopes=key.scopes or [],
    )
    times = {
        "create_time": key.created_at,
        "expire_time": key.expires_at,
        "last_use_time": key.last_used_at,
        "revoke_time": key.revoked_at,
        "previous_expire_time": previous_ends,
    }
    for name, time in times.items():
        if time is not None:
            getattr(message, name).FromDatetime(time)
    return message
