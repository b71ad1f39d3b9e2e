"""weft.identity.v1.OAuthService: the endpoints' forms and JSON around what decides them."""

import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from google.api.httpbody_pb2 import HttpBody

from services.chassis.caller import SignInRequired
from services.chassis.db import Tx
from services.chassis.method import Call
from services.identity.domain import oauth as rules, openid
from services.identity.domain.oauth import OAuthError
from services.identity.domain.oauth_client import OAuthClient
from services.identity.domain.token import covers
from services.identity.service.authorizing import Authorizer
from services.identity.service.client_proof import proven
from services.identity.service.consenting import Consents
from services.identity.service.device_granting import DeviceGranter
from services.identity.service.shared import Shared
from services.identity.service.token_granting import TokenGranter
from services.identity.service.token_reading import Read, TokenReader
from services.identity.store import oauth as store, service_account as accounts, user as users
from weft.identity.v1 import oauth_pb2 as pb
from weft.identity.v1.events_pb2 import RevocationCause
from weft.identity.v1.oauth_pb2_grpc import OAuthServiceServicer

STATUS_HEADER = "x-weft-http-status"  # The edge makes it the HTTP status.
INTROSPECT = "identity.tokens.introspect"
TOLD = ("scope", "client_id", "sub", "iat", "exp", "aud", "iss", "jti")  # RFC 7662 2.2
JSON = "application/json"


class OAuth(OAuthServiceServicer):
    def __init__(self, shared: Shared) -> None:
        self._shared, self._consents = shared, Consents(shared)
        self._reader = TokenReader(shared)
        self._authorizer = Authorizer(shared, self._consents, self._reader)
        self._granter = TokenGranter(shared)
        self._devices = DeviceGranter(shared, self._consents)

    async def Authorize(self, request: pb.AuthorizeRequest, call: Call) -> pb.AuthorizeResponse:
        return await self._authorizer.answer(request, call)

    async def Token(self, request: pb.TokenRequest, call: Call) -> pb.TokenResponse:
        try:
            body = await self._granter.answer(_form(request.form), call)
        except OAuthError as error:
            return pb.TokenResponse(json=await _refused(error, call))
        return pb.TokenResponse(json=await _sent(body, call))

    async def Revoke(self, request: pb.RevokeRequest, call: Call) -> pb.RevokeResponse:
        try:
            fields = _form(request.form)
            async with self._shared.db.transaction() as tx:
                client = await proven(tx, self._shared, fields, call.header("authorization"))
                await self._revoke(tx, client, fields.get("token", ""))
        except OAuthError as error:
            return pb.RevokeResponse(json=await _refused(error, call))
        return pb.RevokeResponse(json=await _sent({}, call))

    async def Introspect(self, request: pb.IntrospectRequest, call: Call) -> pb.IntrospectResponse:
        try:
            fields = _form(request.form)
            async with self._shared.db.transaction() as tx:
                client = await proven(tx, self._shared, fields, call.header("authorization"))
                _require_secret(client)
                told = await self._told(tx, client, fields.get("token", ""))
        except OAuthError as error:
            return pb.IntrospectResponse(json=await _refused(error, call))
        return pb.IntrospectResponse(json=await _sent(told, call))

    async def AuthorizeDevice(
        self, request: pb.AuthorizeDeviceRequest, call: Call
    ) -> pb.AuthorizeDeviceResponse:
        try:
            body = await self._devices.ask(_form(request.form), call)
        except OAuthError as error:
            return pb.AuthorizeDeviceResponse(json=await _refused(error, call))
        return pb.AuthorizeDeviceResponse(json=await _sent(body, call))

    async def GetDevice(self, request: pb.GetDeviceRequest, call: Call) -> pb.GetDeviceResponse:
        return await self._devices.show(request, call)

    async def DecideDevice(self, request: pb.DecideDeviceRequest, call: Call) -> pb.DecideDeviceResponse:
        return await self._devices.decide(request, call)

    async def GetUserInfo(self, request: pb.GetUserInfoRequest, call: Call) -> pb.GetUserInfoResponse:
        """The scope is a third party's as a rule, so the chassis' rule for them is not asked: `openid` is."""
        caller = call.caller
        if not caller.subject or caller.kind != "user":
            raise SignInRequired
        if "openid" not in caller.scope:
            return pb.GetUserInfoResponse(
                json=await _refused(OAuthError("insufficient_scope", "", 403), call)
            )
        async with self._shared.db.transaction() as tx:
            read = await self._reader.access(tx, caller.token)
            if read is None:
                error = OAuthError("invalid_token", "", 401)
                return pb.GetUserInfoResponse(json=await _refused(error, call))
            person = await users.get(tx, UUID(caller.subject))
        return pb.GetUserInfoResponse(json=await _sent(openid.user_info(person, caller.scope), call))

    async def GetDiscovery(self, request: pb.GetDiscoveryRequest, call: Call) -> pb.GetDiscoveryResponse:
        document = openid.discovery(self._shared.tools.settings.issuer)
        return pb.GetDiscoveryResponse(json=HttpBody(content_type=JSON, data=json.dumps(document).encode()))

    async def ListConsents(self, request: pb.ListConsentsRequest, call: Call) -> pb.ListConsentsResponse:
        response = pb.ListConsentsResponse()
        async with self._shared.db.transaction() as tx:
            for given, client in await store.consents(tx, UUID(request.user_id)):
                shown = response.consents.add(
                    client_id=client.client_id, client_name=client.name, scopes=given.scopes
                )
                shown.grant_time.FromDatetime(given.granted_at)
        return response

    async def WithdrawConsent(
        self, request: pb.WithdrawConsentRequest, call: Call
    ) -> pb.WithdrawConsentResponse:
        async with self._shared.db.transaction() as tx:
            await self._consents.withdraw(tx, UUID(request.user_id), request.client_id)
        return pb.WithdrawConsentResponse()

    async def _revoke(self, tx: Tx, client: OAuthClient, token: str) -> None:
        """An unknown token is as good as revoked (RFC 7009 2.2); another client's is left alone."""
        if not token:
            raise OAuthError("invalid_request")
        read = await self._read(tx, token)
        if read is not None and read.session is not None and read.session.client_id == client.client_id:
            await self._shared.issuer.end(tx, read.session, RevocationCause.REVOCATION_CAUSE_CLIENT)

    async def _told(self, tx: Tx, client: OAuthClient, token: str) -> Mapping[str, Any]:
        """RFC 7662 2.2. What the client may not know is inactive to it."""
        read = await self._read(tx, token) if token else None
        if read is None:
            return {"active": False}
        own = read.claims.get("client_id") == client.client_id
        if not own and not await self._introspects(tx, client):
            return {"active": False}
        if read.session is None and not await self._stands(tx, str(read.claims.get("client_id", ""))):
            return {"active": False}
        told = {name: read.claims[name] for name in TOLD if name in read.claims}
        return {"active": True, "token_type": "Bearer", **told}

    async def _read(self, tx: Tx, token: str) -> Read | None:
        return await self._reader.access(tx, token) or await self._reader.refresh(tx, token)

    async def _introspects(self, tx: Tx, client: OAuthClient) -> bool:
        """Whether it acts as a service account that may introspect any token."""
        if client.service_account_id is None or not covers(set(client.scopes), INTROSPECT):
            return False
        account = await accounts.find(tx, client.service_account_id)
        if account is None or account.disabled:
            return False
        held = await accounts.roles_of(tx, account.service_account_id)
        return any(covers(set(role.permissions), INTROSPECT) for role in held)

    async def _stands(self, tx: Tx, client_id: str) -> bool:
        """Whether a client that holds a token of its own may still call."""
        client = await store.find(tx, client_id)
        if client is None or client.disabled or client.service_account_id is None:
            return False
        account = await accounts.find(tx, client.service_account_id)
        return account is not None and not account.disabled


def _require_secret(client: OAuthClient) -> None:
    """Raises OAuthError."""
    if not client.confidential:
        raise OAuthError("invalid_client", "Introspection takes a client with a secret.", 401)


def _form(body: HttpBody) -> dict[str, str]:
    return rules.form(body.content_type, body.data)


async def _sent(body: Mapping[str, Any], call: Call) -> HttpBody:
    await call.send_initial_metadata((("cache-control", "no-store"),))
    return HttpBody(content_type=JSON, data=json.dumps(body).encode())


async def _refused(error: OAuthError, call: Call) -> HttpBody:
    headers = [("cache-control", "no-store"), (STATUS_HEADER, str(error.status))]
    if error.status == 401:
        scheme = "Bearer" if error.error == "invalid_token" else "Basic"
        headers.append(("www-authenticate", f'{scheme} realm="weft", error="{error.error}"'))
    await call.send_initial_metadata(headers)
    return HttpBody(content_type=JSON, data=json.dumps(error.body()).encode())
