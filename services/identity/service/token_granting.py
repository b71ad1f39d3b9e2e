"""The token endpoint: what each grant type takes, and the tokens it gives (RFC 6749 4, 6; RFC 8628 3.4)."""

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from services.chassis.db import Tx
from services.chassis.events import emit
from services.chassis.method import Call
from services.identity.domain import code as codes, device as devices, oauth as rules, openid
from services.identity.domain.code import CodeRefused, OneUseCode
from services.identity.domain.oauth import OAuthError
from services.identity.domain.oauth_client import REFRESH, OAuthClient, may_ask
from services.identity.domain.role import union
from services.identity.domain.sealing import digest
from services.identity.domain.session import RefreshRefused
from services.identity.domain.token import Grant, TokenPair, narrowed
from services.identity.service.client_proof import proven, require_grant
from services.identity.service.shared import Shared, device as device_of
from services.identity.store import (
    code as code_store,
    oauth as store,
    service_account as accounts,
    session as sessions,
    user as users,
)
from weft.identity.v1.credential_events_pb2 import AuthorizationCodeReused
from weft.identity.v1.events_pb2 import RevocationCause

OFFLINE, OPENID = "offline_access", "openid"
Fields = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What a person proved to whom, by a code or at a device."""

    client: OAuthClient
    user_id: UUID
    scopes: Sequence[str]
    amr: Sequence[str]
    auth_time: datetime
    nonce: str = ""


@dataclass(slots=True)
class _Outcome:
    """What a transaction that commits in any case came to."""

    body: dict[str, Any] = field(default_factory=dict)
    error: OAuthError | None = None


class TokenGranter:
    """Answers Token."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    async def answer(self, fields: Fields, call: Call) -> dict[str, Any]:
        """The JSON of a good answer. Raises OAuthError, after what must stay was committed."""
        grant = rules.GRANTS.get(fields.get("grant_type", ""))
        if grant is None:
            missing = "grant_type" not in fields
            raise OAuthError("invalid_request" if missing else "unsupported_grant_type")
        async with self._shared.db.transaction() as tx:
            client = await proven(tx, self._shared, fields, call.header("authorization"))
            require_grant(client, grant)
            outcome = await self._granted(tx, grant, client, fields, call)
        if outcome.error is not None:
            raise outcome.error
        return outcome.body

    async def _granted(self, tx: Tx, grant: str, client: OAuthClient, fields: Fields, call: Call) -> _Outcome:
        """An error that must not undo what was written is in the outcome; others are raised."""
        match grant:
            case "authorization_code":
                return await self._by_code(tx, client, fields, call)
            case "refresh_token":
                return await self._by_refresh(tx, client, fields)
            case "client_credentials":
                return _Outcome(await self._by_credentials(tx, client, fields))
            case _:
                return await self._by_device(tx, client, fields, call)

    async def _by_code(self, tx: Tx, client: OAuthClient, fields: Fields, call: Call) -> _Outcome:
        token = fields.get("code", "")
        try:
            code = await code_store.spend(tx, rules.CODE, token, self._shared.clock.now())
        except CodeRefused:
            await self._end_reused(tx, token)
            return _Outcome(error=OAuthError("invalid_grant"))
        if not _matches(code, client, fields) or not await users.active(tx, UUID(code.subject)):
            return _Outcome(error=OAuthError("invalid_grant"))  # Spent all the same.
        login = await sessions.lock(tx, UUID(code.data["session_id"]))
        if login is None or not login.open(self._shared.clock.now()):
            return _Outcome(error=OAuthError("invalid_grant"))
        proof = Proof(
            client=client,
            user_id=UUID(code.subject),
            scopes=code.data["scopes"],
            amr=code.data["amr"],
            auth_time=datetime.fromisoformat(code.data["auth_time"]),
            nonce=code.data["nonce"],
        )
        pair = await self._pair(tx, proof, call)
        code.data = {**code.data, "issued": str(pair.session_id)}
        return _Outcome(self._body(proof, pair))

    async def _end_reused(self, tx: Tx, token: str) -> None:
        """A code that comes again ends what it gave (RFC 6749 4.1.2). Emits AuthorizationCodeReused."""
        parsed = codes.parsed(token)
        code = await store.lock_code(tx, parsed.code_id) if parsed else None
        if code is None or parsed is None or code.purpose != rules.CODE or code.used_at is None:
            return
        if not hmac.compare_digest(code.hash, parsed.hash):
            return
        issued = code.data.get("issued", "")
        session = await sessions.lock(tx, UUID(issued)) if issued else None
        if session is None or session.ended_at is not None:
            return
        event = AuthorizationCodeReused(
            user_id=code.subject, client_id=code.data["client_id"], session_id=issued
        )
        await emit(tx, event)
        await self._shared.issuer.end(tx, session, RevocationCause.REVOCATION_CAUSE_CODE_REUSED)

    async def _by_refresh(self, tx: Tx, client: OAuthClient, fields: Fields) -> _Outcome:
        """A narrower scope would need a chain of its own; the granted one is repeated or left out."""
        try:
            pair = await self._shared.issuer.refresh(tx, fields.get("refresh_token", ""), client.client_id)
        except RefreshRefused:
            raise OAuthError("invalid_grant") from None
        if pair is None:
            return _Outcome(error=OAuthError("invalid_grant"))
        if not set(_scopes(fields)) <= pair.scope:
            raise OAuthError("invalid_scope")  # Undone: the refresh token stays good.
        return _Outcome(_answer(pair))

    async def _by_credentials(self, tx: Tx, client: OAuthClient, fields: Fields) -> dict[str, Any]:
        account = await accounts.find(tx, client.service_account_id) if client.service_account_id else None
        if account is None or account.disabled:
            raise OAuthError("unauthorized_client")
        asked = _scopes(fields)
        if not may_ask(client, asked):
            raise OAuthError("invalid_scope")
        held = await accounts.roles_of(tx, account.service_account_id)
        allowed = narrowed(union(held), frozenset(client.scopes))
        scope = narrowed(allowed, frozenset(asked)) if asked else allowed
        grant = Grant(
            subject=str(account.service_account_id),
            auth_time=self._shared.clock.now(),
            kind="client",
            roles=frozenset(role.role for role in held),
            client_id=client.client_id,
        )
        access, life_s = self._shared.issuer.mint(grant, scope)
        scope_text = " ".join(sorted(scope))
        return {"access_token": access, "token_type": "Bearer", "expires_in": life_s, "scope": scope_text}

    async def _by_device(self, tx: Tx, client: OAuthClient, fields: Fields, call: Call) -> _Outcome:
        device = await store.device(tx, digest(fields.get("device_code", "").encode()))
        if device is None or device.client_id != client.client_id:
            raise OAuthError("invalid_grant")
        try:
            devices.poll(device, self._shared.clock.now())
        except OAuthError as error:
            return _Outcome(error=error)
        assert device.user_id is not None, "a device was let in by nobody"
        assert device.auth_time is not None, "a device was let in without a sign-in"
        device.state = devices.USED
        if not await users.active(tx, device.user_id):
            return _Outcome(error=OAuthError("access_denied"))
        proof = Proof(
            client=client,
            user_id=device.user_id,
            scopes=device.scopes,
            amr=device.amr,
            auth_time=device.auth_time,
        )
        return _Outcome(self._body(proof, await self._pair(tx, proof, call)))

    async def _pair(self, tx: Tx, proof: Proof, call: Call) -> TokenPair:
        """A session of the client's own; one that cannot be refreshed ends with its access token."""
        lasting = OFFLINE in proof.scopes and REFRESH in proof.client.grant_types
        settings = self._shared.settings
        grant = Grant(
            subject=str(proof.user_id),
            auth_time=proof.auth_time,
            scope=frozenset(proof.scopes),
            amr=tuple(proof.amr),
            client_id=proof.client.client_id,
            device=device_of(call, proof.client.name),
            refreshable=lasting,
            lifetime_s=settings.session_days * 86_400 if lasting else settings.access_s,
        )
        return await self._shared.issuer.tokens(tx, grant)

    def _body(self, proof: Proof, pair: TokenPair) -> dict[str, Any]:
        body = _answer(pair)
        if OPENID not in proof.scopes:
            return body
        signed_in = openid.SignedIn(
            subject=pair.subject,
            client_id=proof.client.client_id,
            session_id=str(pair.session_id),
            nonce=proof.nonce,
            amr=proof.amr,
            auth_time=proof.auth_time,
            access_token=pair.access,
        )
        claims = openid.id_claims(self._shared.tools.settings.issuer, signed_in, self._shared.clock.now())
        return {**body, "id_token": self._shared.keyring.sign(claims, "JWT")}


def _matches(code: OneUseCode, client: OAuthClient, fields: Fields) -> bool:
    """The same client, the same redirect URI, and the verifier of the challenge."""
    same_client = code.data["client_id"] == client.client_id
    same_uri = code.data["redirect_uri"] == fields.get("redirect_uri", "")
    return same_client and same_uri and rules.proves(code.data["challenge"], fields.get("code_verifier", ""))


def _scopes(fields: Fields) -> tuple[str, ...]:
    """Raises OAuthError."""
    try:
        return rules.scopes(fields.get("scope", ""))
    except ValueError:
        raise OAuthError("invalid_scope") from None


def _answer(pair: TokenPair) -> dict[str, Any]:
    body = {
        "access_token": pair.access,
        "token_type": "Bearer",
        "expires_in": pair.expires_in_s,
        "scope": " ".join(sorted(pair.scope)),
    }
    return {**body, "refresh_token": pair.refresh} if pair.refresh else body
