"""weft.identity.v1.OAuthClientService."""

from datetime import datetime
from uuid import UUID

from services.chassis.caller import Caller
from services.chassis.db import Tx
from services.chassis.events import emit
from services.chassis.masks import EtagMismatch
from services.chassis.method import Call
from services.identity.domain import oauth_client as rules
from services.identity.domain.oauth import CODE
from services.identity.domain.oauth_client import Described, OAuthClient, OAuthClientSecret
from services.identity.domain.role import require_within
from services.identity.domain.token import ACCOUNT
from services.identity.service.shared import Shared
from services.identity.store import oauth as store, service_account as accounts
from weft.identity.v1 import oauth_client_pb2 as pb
from weft.identity.v1.credential_events_pb2 import (
    OAuthClientCreated,
    OAuthClientDeleted,
    OAuthClientSecretRotated,
    OAuthClientUpdated,
)
from weft.identity.v1.events_pb2 import RevocationCause
from weft.identity.v1.oauth_client_pb2_grpc import OAuthClientServiceServicer

PREFIX = "O_AUTH_GRANT_TYPE_"


class OAuthClients(OAuthClientServiceServicer):
    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    async def CreateOAuthClient(
        self, request: pb.CreateOAuthClientRequest, call: Call
    ) -> pb.CreateOAuthClientResponse:
        described, now = described_by(request.settings), self._shared.clock.now()
        rules.check(described, request.confidential)
        client = OAuthClient(
            client_id=rules.new_id(),
            confidential=request.confidential,
            revision=1,
            created_at=now,
            updated_at=now,
        )
        _describe(client, described)
        async with self._shared.db.transaction() as tx:
            await self._require_grantable(tx, call.caller, described)
            tx.add(client)
            await tx.flush()
            secret = self._new_secret(tx, client, now) if client.confidential else ""
            await emit(tx, OAuthClientCreated(client_id=client.client_id))
        return pb.CreateOAuthClientResponse(client=to_pb(client), client_secret=secret)

    async def GetOAuthClient(
        self, request: pb.GetOAuthClientRequest, call: Call
    ) -> pb.GetOAuthClientResponse:
        async with self._shared.db.transaction() as tx:
            return pb.GetOAuthClientResponse(client=to_pb(await store.get(tx, request.client_id)))

    async def ListOAuthClients(
        self, request: pb.ListOAuthClientsRequest, call: Call
    ) -> pb.ListOAuthClientsResponse:
        page = store.PAGES.page(request, self._shared.tools.settings.mesh_key)
        async with self._shared.db.transaction() as tx:
            rows, token = await store.page(tx, page)
        return pb.ListOAuthClientsResponse(clients=map(to_pb, rows), next_page_token=token)

    async def UpdateOAuthClient(
        self, request: pb.UpdateOAuthClientRequest, call: Call
    ) -> pb.UpdateOAuthClientResponse:
        described = described_by(request.settings)
        async with self._shared.db.transaction() as tx:
            client = await store.get(tx, request.client_id, lock=True)
            _require_rule_over(call.caller, client)
            rules.check(described, client.confidential)
            await self._require_grantable(tx, call.caller, described)
            if request.etag and request.etag != client.etag:
                raise EtagMismatch(current=client.etag, given=request.etag)
            _describe(client, described)
            client.changed(self._shared.clock.now())
            await emit(tx, OAuthClientUpdated(client_id=client.client_id))
        return pb.UpdateOAuthClientResponse(client=to_pb(client))

    async def RotateOAuthClientSecret(
        self, request: pb.RotateOAuthClientSecretRequest, call: Call
    ) -> pb.RotateOAuthClientSecretResponse:
        now = self._shared.clock.now()
        async with self._shared.db.transaction() as tx:
            client = await store.get(tx, request.client_id, lock=True)
            _require_rule_over(call.caller, client)
            if not client.confidential:
                raise rules.ClientPublic(client_id=client.client_id)
            await store.end_secrets(tx, client.client_id, now + request.overlap.ToTimedelta(), now)
            secret = self._new_secret(tx, client, now)
            await emit(tx, OAuthClientSecretRotated(client_id=client.client_id))
        return pb.RotateOAuthClientSecretResponse(client_secret=secret)

    async def DeleteOAuthClient(
        self, request: pb.DeleteOAuthClientRequest, call: Call
    ) -> pb.DeleteOAuthClientResponse:
        async with self._shared.db.transaction() as tx:
            client = await store.get(tx, request.client_id, lock=True)
            for session in await store.open_sessions(tx, client.client_id):
                await self._shared.issuer.end(tx, session, RevocationCause.REVOCATION_CAUSE_CLIENT)
            await store.void_codes(tx, CODE, client.client_id)
            await tx.delete(client)
            await emit(tx, OAuthClientDeleted(client_id=client.client_id))
        return pb.DeleteOAuthClientResponse()

    def _new_secret(self, tx: Tx, client: OAuthClient, now: datetime) -> str:
        secret = rules.new_secret()
        hash_ = rules.secret_hash(self._shared.sealer, client.client_id, secret)
        tx.add(OAuthClientSecret(hash=hash_, client_id=client.client_id, created_at=now, expires_at=None))
        return secret

    async def _require_grantable(self, tx: Tx, caller: Caller, described: Described) -> None:
        """Nobody lets a client ask for, or call as, what they lack.

        Raises BeyondOwnPermissions, ServiceAccountNotFound.
        """
        require_within(caller.scope, [scope for scope in described.scopes if scope != ACCOUNT])
        if described.service_account_id is not None:
            await accounts.get(tx, described.service_account_id)


def _require_rule_over(caller: Caller, client: OAuthClient) -> None:
    """Whoever holds a client's secret may do what it may. Raises BeyondOwnPermissions."""
    require_within(caller.scope, [scope for scope in client.scopes if scope != ACCOUNT])


def described_by(message: pb.OAuthClientSettings) -> Described:
    return Described(
        name=message.name,
        redirect_uris=list(message.redirect_uris),
        grant_types=[
            pb.OAuthGrantType.Name(each).removeprefix(PREFIX).lower() for each in message.grant_types
        ],
        scopes=list(message.scopes),
        trusted=message.trusted,
        service_account_id=UUID(message.service_account_id) if message.service_account_id else None,
        disabled=message.disabled,
    )


def _grant_name(value: "pb.OAuthGrantType.ValueType") -> str:
    return pb.OAuthGrantType.Name(value).removeprefix(PREFIX).lower()


def _describe(client: OAuthClient, described: Described) -> None:
    client.name = described.name
    client.redirect_uris = list(described.redirect_uris)
    client.grant_types = list(described.grant_types)
    client.scopes = list(described.scopes)
    client.trusted = described.trusted
    client.service_account_id = described.service_account_id
    client.disabled = described.disabled


def to_pb(client: OAuthClient) -> pb.OAuthClient:
    settings = pb.OAuthClientSettings(
        name=client.name,
        redirect_uris=client.redirect_uris,
        grant_types=[pb.OAuthGrantType.Value(PREFIX + each.upper()) for each in client.grant_types],
        scopes=client.scopes,
        trusted=client.trusted,
        service_account_id=str(client.service_account_id or ""),
        disabled=client.disabled,
    )
    message = pb.OAuthClient(
        client_id=client.client_id, settings=settings, confidential=client.confidential, etag=client.etag
    )
    message.create_time.FromDatetime(client.created_at)
    message.update_time.FromDatetime(client.updated_at)
    return message
