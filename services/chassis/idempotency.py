"""At most one effect per `idempotency-key`, for methods that are not idempotent by their contract.

The key's row is written inside the first transaction that the handler opens, so key and effect commit
together or not at all (after the Idempotency-Key header, draft-ietf-httpapi-idempotency-key-header).
A repeat with the same body gets the first answer again; with another body it is refused. An answer that
holds a secret is not kept: its repeat is refused as OutcomeUnknown.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from google.rpc import status_pb2

from services.chassis.db import on_begin
from services.chassis.errors import Aborted, AlreadyExists, InvalidArgument, Refusal
from services.chassis.method import Call

HEADER = "idempotency-key"
KEY_CHARS_MAX = 255
RETENTION_H = 24  # How long an answer is remembered; a loop of the host deletes older rows.

CLAIM = """
insert into idempotency (caller, method, key, request) values ($1, $2, $3, $4)
on conflict do nothing returning true
"""
FIND = "select request, response, refusal from idempotency where (caller, method, key) = ($1, $2, $3)"
KEEP = "update idempotency set response = $4, refusal = $5 where (caller, method, key) = ($1, $2, $3)"
FORGET = "delete from idempotency where at < now() - make_interval(hours => $1)"


class IdempotencyKeyTooLong(InvalidArgument):
    """An idempotency key has at most {max} characters."""


class IdempotencyKeyReused(AlreadyExists):
    """This idempotency key came before with another request."""


class OutcomeUnknown(Aborted):
    """A call with this idempotency key took effect or still may; its answer was not kept."""


class Answered(Refusal):
    """The refusal that was given the first time."""

    def __init__(self, status: status_pb2.Status) -> None:
        super().__init__()
        self._status = status
        self.code = status.code  # type: ignore[misc]

    def status(self) -> status_pb2.Status:
        return self._status


class Store(Protocol):
    """The database whose transaction took the claim."""

    async def fetchrow(self, sql: str, *args: Any) -> Any: ...
    async def execute(self, sql: str, *args: Any) -> Any: ...


class _Taken(Exception):
    """Another call with the key has committed."""


@dataclass(slots=True)
class _Claim:
    """One call's hold on its key."""

    caller: str
    method: str
    key: str
    request: bytes  # SHA-256
    store: Store | None = None

    async def take(self, store: Store, run: Callable[..., Awaitable[Any]]) -> None:
        """Called by the first transaction of the handler; waits for a rival that has not committed."""
        if self.store is None:
            self.store = store
            if not await run(CLAIM, self.caller, self.method, self.key, self.request):
                raise _Taken

    async def keep(self, response: bytes | None, refusal: bytes | None) -> None:
        """After the effect committed; a kill in between leaves OutcomeUnknown to repeats."""
        if self.store is not None:
            await self.store.execute(KEEP, self.caller, self.method, self.key, response, refusal)

    async def first_answer(self, response: type[Any]) -> Any:
        assert self.store is not None
        row = await self.store.fetchrow(FIND, self.caller, self.method, self.key)
        if row is None:
            raise OutcomeUnknown
        if row["request"] != self.request:
            raise IdempotencyKeyReused
        if row["refusal"] is not None:
            raise Answered(status_pb2.Status.FromString(row["refusal"]))
        if row["response"] is None:
            raise OutcomeUnknown
        return response.FromString(row["response"])


async def once(call: Call, request: Any, answer: Callable[[], Awaitable[Any]]) -> Any:
    """The response of `answer()`, or of the first call with the same key."""
    key = call.header(HEADER)
    if not key or call.method.idempotent or call.method.request_streaming:
        return await answer()
    if len(key) > KEY_CHARS_MAX:
        raise IdempotencyKeyTooLong(max=KEY_CHARS_MAX)
    digest = hashlib.sha256(request.SerializeToString(deterministic=True)).digest()
    claim = _Claim(call.caller.actor, call.method.path, key, digest)
    mark = on_begin.set(claim.take)
    try:
        response = await answer()
    except _Taken:
        return await claim.first_answer(call.method.response)
    except Refusal as refusal:
        await claim.keep(None, refusal.status().SerializeToString())
        raise
    finally:
        on_begin.reset(mark)
    if not call.method.secret:
        await claim.keep(call.method.serialize(response), None)
    return response
