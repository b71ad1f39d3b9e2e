"""envoy.service.auth.v3.Authorization: the edge exchanges an API key for an access token of minutes.

Each call looks the key up, so a revoked one is refused from then on, in every process. Only the signing is
saved: a token is given again while what it says is still so, for half of its life at most.
"""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from google.rpc import code_pb2

from envoy.config.core.v3.base_pb2 import HeaderValue, HeaderValueOption
from envoy.service.auth.v3.external_auth_pb2 import (
    CheckRequest,
    CheckResponse,
    DeniedHttpResponse,
    OkHttpResponse,
)
from envoy.type.v3.http_status_pb2 import HttpStatus
from services.chassis.method import Call
from services.identity.domain import api_key as rules
from services.identity.domain.api_key import Presented
from services.identity.domain.token import ACCOUNT, Grant, narrowed
from services.identity.federation_settings import FederationSettings
from services.identity.service.shared import Shared
from services.identity.store import api_key as store

HEADER = "x-api-key"
TOKENS_MAX = 10_000  # Signed tokens a process keeps; about 1 kB each.
USES_MAX = 10_000  # Keys whose use waits to be written.
USES_WRITTEN_EVERY_S = 15.0  # Well under the minute that a last use is exact to.
UNAUTHORIZED = 401
DENIAL = "The API key is not good."  # The edge makes its usual error of it.


@dataclass(frozen=True, slots=True)
class _Signed:
    """A token, what it says, and until when it is given again."""

    token: str
    says: tuple[frozenset[str], frozenset[str]]
    until: float


class KeyExchange:
    """Answers the edge's authorization calls."""

    def __init__(self, shared: Shared, settings: FederationSettings) -> None:
        self._shared, self._life_s = shared, settings.api_key_token_s
        self._signed: OrderedDict[str, _Signed] = OrderedDict()
        self._uses: dict[str, datetime] = {}

    async def Check(self, request: CheckRequest, call: Call) -> CheckResponse:
        text = request.attributes.request.http.headers.get(HEADER, "")
        key = rules.presented(text)
        row = await self._looked_up(key) if key else None
        if row is None:
            return _denied()
        self._note_use(row["api_key_id"])
        return _allowed(self._token(row))

    async def run(self) -> None:
        """Writes uses down, for ever."""
        while True:
            await asyncio.sleep(USES_WRITTEN_EVERY_S)
            await self.write_uses()

    async def write_uses(self) -> None:
        uses, self._uses = self._uses, {}
        if uses:
            await store.note_uses(self._shared.db, uses)

    async def _looked_up(self, key: Presented) -> Any:
        hash_ = rules.secret_hash(self._shared.sealer, key)
        return await store.presented(self._shared.db, hash_, key.api_key_id, self._shared.clock.now())

    def _token(self, row: Any) -> str:
        wanted = None if row["scopes"] is None else frozenset(row["scopes"])
        scope = narrowed(frozenset(row["permissions"]), wanted)
        if wanted is None or ACCOUNT in wanted:
            scope |= {ACCOUNT}
        says, now = (scope, frozenset(row["roles"])), self._shared.clock.now().timestamp()
        known = self._signed.get(row["api_key_id"])
        if known is None or known.says != says or now >= known.until:
            known = _Signed(self._mint(row, *says), says, now + self._life_s / 2)
            self._signed[row["api_key_id"]] = known
            if len(self._signed) > TOKENS_MAX:
                self._signed.popitem(last=False)
        return known.token

    def _mint(self, row: Any, scope: frozenset[str], roles: frozenset[str]) -> str:
        grant = Grant(
            subject=str(row["owner_id"]),
            auth_time=row["created_at"],
            kind="api_key",
            roles=roles,
            client_id=row["api_key_id"],
        )
        return self._shared.issuer.mint(grant, scope, self._life_s)[0]

    def _note_use(self, api_key_id: str) -> None:
        now, before = self._shared.clock.now(), self._uses.get(api_key_id)
        due = before is None or now - before >= rules.USED_EVERY
        if due and len(self._uses) < USES_MAX:
            self._uses[api_key_id] = now


def _allowed(token: str) -> CheckResponse:
    """The key is taken off: no service ever sees one."""
    header = HeaderValueOption(
        header=HeaderValue(key="authorization", value=f"Bearer {token}"),
        append_action=HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
    )
    response = CheckResponse(ok_response=OkHttpResponse(headers=[header], headers_to_remove=[HEADER]))
    response.status.code = code_pb2.OK
    return response


def _denied() -> CheckResponse:
    denial = DeniedHttpResponse(status=HttpStatus(code=UNAUTHORIZED), body=DENIAL)
    response = CheckResponse(denied_response=denial)
    response.status.code, response.status.message = code_pb2.UNAUTHENTICATED, DENIAL
    return response
