"""Pages of jobs: an index gives candidates newest first, the rest is looked at row by row, within a bound."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV
from google.protobuf.message import Message

from services.chassis.clock import Clock
from services.chassis.db import Database
from services.chassis.listing import NONCE_BYTES, PAGE_SIZE, PAGE_SIZE_MAX, BadPageToken
from services.queue.domain.job import SCAN_MAX, StatesRefused, floor_id
from services.queue.domain.states import FINAL
from services.queue.service.pack import moment, uuid_or_none
from services.queue.service.running import Running
from services.queue.service.viewing import fits, state_of
from services.queue.store import reading as store
from services.queue.store.days import LEAST, MOST, Days
from weft.queue.v1 import job_messages_pb2 as pb

CHUNK = 500  # Candidates that are looked at together, when the index does not decide alone.


class Marks:
    """Page tokens that mark an id, sealed, and bound to the request but for its page."""

    def __init__(self, key: str) -> None:
        self._cipher = AESGCMSIV(hashlib.sha256(b"weft job page v1" + key.encode()).digest())

    def open(self, request: Any) -> UUID:
        """Where the page begins. Raises BadPageToken."""
        if not request.page_token:
            return MOST
        try:
            raw = base64.b64decode(request.page_token, b"-_", validate=True)
            return UUID(bytes=self._cipher.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], _bound(request)))
        except (ValueError, InvalidTag):
            raise BadPageToken from None

    def close(self, request: Message, last: UUID) -> str:
        nonce = hashlib.sha256(last.bytes + _bound(request)).digest()[
            :NONCE_BYTES
        ]  # Equal pages, equal tokens.
        return base64.urlsafe_b64encode(
            nonce + self._cipher.encrypt(nonce, last.bytes, _bound(request))
        ).decode()


def _bound(request: Message) -> bytes:
    bare = type(request)()
    bare.CopyFrom(request)
    bare.ClearField("page_token")
    bare.ClearField("page_size")
    return request.DESCRIPTOR.full_name.encode() + b"\0" + bare.SerializeToString(deterministic=True)


def page_size(request: Any) -> int:
    return min(request.page_size or PAGE_SIZE, PAGE_SIZE_MAX)


class Pages:
    """Reads pages of jobs."""

    def __init__(self, db: Database, days: Days, clock: Clock, running: Running) -> None:
        self._db, self._days, self._clock, self._running = db, days, clock, running

    async def rows(self, request: pb.ListJobsRequest, begin: UUID) -> tuple[list[Any], UUID | None]:
        """Rows of the store's view, and where the next page begins; None: there is none."""
        wanted, least = _wanted(request), _least(request)
        before = min(begin, _most(request))
        label = await store.rarest(self._db, request.labels, before, least, SCAN_MAX)
        wanted = replace(wanted, label=label)
        size, found, scanned = page_size(request), list[Any](), 0
        chunk = size + 1 if _decides(wanted, request.labels) else max(size + 1, CHUNK)
        while before > least and scanned < SCAN_MAX:
            ids, after = await store.candidates((self._db, self._days), wanted, before, least, chunk)
            for row in await self._fitting(ids, wanted, request.labels):
                found.append(row)
                if len(found) > size:
                    return found[:size], found[size - 1]["job_id"]
            before, scanned = after, scanned + max(len(ids), 1)
        return found, before if before > least else None

    async def _fitting(self, ids: Sequence[UUID], wanted: store.Wanted, labels: Sequence[str]) -> list[Any]:
        if not _decides(wanted, labels):
            ids = await store.narrow((self._db, self._days), wanted, labels, ids)
        rows = await store.views(self._db, self._days, ids) if ids else {}
        ordered = [rows[job_id] for job_id in ids if job_id in rows]
        live = self._running.among(ordered)
        now = self._clock.now()
        return [
            row for row in ordered if fits(row, state_of(row, live.get(row["job_id"]), now), wanted, labels)
        ]


def _wanted(request: pb.ListJobsRequest) -> store.Wanted:
    """Raises StatesRefused."""
    states = frozenset(map(int, request.states))
    if states & FINAL and states - FINAL:
        raise StatesRefused(field="states")
    return store.Wanted(
        queue=request.queue,
        type=request.type,
        key=request.key,
        group_id=uuid_or_none(request.group_id),
        states=states,
        final=bool(states & FINAL),
    )


def _decides(wanted: store.Wanted, labels: Sequence[str]) -> bool:
    """Whether the index that is chosen leaves nothing to look at."""
    narrow = [wanted.queue, wanted.type, wanted.key, wanted.group_id]
    if wanted.label:
        return len(labels) == 1 and not any(narrow) and not wanted.states
    return sum(map(bool, narrow)) <= 1


def _least(request: pb.ListJobsRequest) -> UUID:
    return floor_id(moment(request.from_time)) if request.HasField("from_time") else LEAST


def _most(request: pb.ListJobsRequest) -> UUID:
    return floor_id(moment(request.until_time)) if request.HasField("until_time") else MOST
