"""Devices that ask to be let in, and the people who decide it elsewhere (RFC 8628)."""

import secrets
from datetime import timedelta
from typing import Any
from uuid import UUID

from services.chassis.db import Tx
from services.chassis.events import emit
from services.chassis.method import Call
from services.identity.domain import device as rules, lockout
from services.identity.domain.device import DeviceAuthorization, TooManyUserCodes, UserCodeRefused
from services.identity.domain.lockout import Window
from services.identity.domain.oauth import FirstPartyOnly, OAuthError, scopes
from services.identity.domain.oauth_client import DEVICE, OAuthClient, may_ask
from services.identity.domain.sealing import digest
from services.identity.domain.session import Session
from services.identity.service.authorizing import require_first_party
from services.identity.service.client_proof import proven, require_grant
from services.identity.service.consenting import Consents
from services.identity.service.shared import Shared, own_id
from services.identity.store import attempts, oauth as store, session as sessions
from weft.identity.v1 import oauth_pb2 as pb
from weft.identity.v1.credential_events_pb2 import DeviceDecided

GUESSES = Window(count=rules.GUESSES_MAX, seconds=rules.GUESSES_S)
GRANT = pb.ConsentDecision.CONSENT_DECISION_GRANT


class DeviceGranter:
    """Answers AuthorizeDevice, GetDevice and DecideDevice."""

    def __init__(self, shared: Shared, consents: Consents) -> None:
        self._shared, self._consents = shared, consents

    async def ask(self, fields: dict[str, str], call: Call) -> dict[str, Any]:
        """Raises OAuthError."""
        try:
            wanted = scopes(fields.get("scope", ""))
        except ValueError:
            raise OAuthError("invalid_scope") from None
        device_code, user_code = secrets.token_urlsafe(rules.DEVICE_CODE_BYTES), rules.new_user_code()
        async with self._shared.db.transaction() as tx:
            client = await proven(tx, self._shared, fields, call.header("authorization"))
            require_grant(client, DEVICE)
            if not may_ask(client, wanted):
                raise OAuthError("invalid_scope")
            tx.add(
                DeviceAuthorization(
                    hash=digest(device_code.encode()),
                    user_code_hash=rules.user_code_hash(self._shared.sealer, user_code),
                    client_id=client.client_id,
                    scopes=list(wanted),
                    state=rules.WAITING,
                    user_id=None,
                    amr=[],
                    auth_time=None,
                    interval_s=rules.INTERVAL_S,
                    polled_at=None,
                    expires_at=self._shared.clock.now() + timedelta(seconds=rules.LIFE_S),
                )
            )
        page = f"{self._shared.tools.settings.edge_url.rstrip('/')}/device"
        return {
            "device_code": device_code,
            "user_code": user_code,
            "verification_uri": page,
            "verification_uri_complete": f"{page}?user_code={user_code}",
            "expires_in": rules.LIFE_S,
            "interval": rules.INTERVAL_S,
        }

    async def show(self, request: pb.GetDeviceRequest, call: Call) -> pb.GetDeviceResponse:
        require_first_party(call)
        await self._count_guess(call)
        async with self._shared.db.transaction() as tx:
            device, client = await self._waiting(tx, request.user_code)
        response = pb.GetDeviceResponse(
            client_id=client.client_id, client_name=client.name, scopes=device.scopes
        )
        response.expire_time.FromDatetime(device.expires_at)
        return response

    async def decide(self, request: pb.DecideDeviceRequest, call: Call) -> pb.DecideDeviceResponse:
        require_first_party(call)
        await self._count_guess(call)
        user_id, granted = own_id(call), request.decision == GRANT
        async with self._shared.db.transaction() as tx:
            session = await self._open_session(tx, call)
            device, client = await self._waiting(tx, request.user_code)
            device.state = rules.GRANTED if granted else rules.DENIED
            device.user_id, device.amr, device.auth_time = user_id, list(session.amr), session.auth_time
            if granted:
                await self._consents.grant(tx, user_id, client, device.scopes)
            event = DeviceDecided(user_id=str(user_id), client_id=client.client_id, granted=granted)
            await emit(tx, event)
        return pb.DecideDeviceResponse()

    async def _count_guess(self, call: Call) -> None:
        """Commits by itself, so that a refused guess counts. Raises TooManyUserCodes."""
        key = lockout.key(self._shared.sealer, "user_code", call.caller.subject)
        async with self._shared.db.transaction() as tx:
            within = await attempts.within(tx, key, GUESSES, self._shared.clock.now())
        if not within:
            raise TooManyUserCodes

    async def _open_session(self, tx: Tx, call: Call) -> Session:
        session = await sessions.own(tx, call.caller.subject, UUID(call.caller.session))
        if not session.open(self._shared.clock.now()):
            raise FirstPartyOnly
        return session

    async def _waiting(self, tx: Tx, user_code: str) -> tuple[DeviceAuthorization, OAuthClient]:
        """Raises UserCodeRefused."""
        hash_ = rules.user_code_hash(self._shared.sealer, user_code)
        device = await store.device_by_user_code(tx, hash_, self._shared.clock.now())
        if device is None:
            raise UserCodeRefused
        return device, await store.get(tx, device.client_id)
