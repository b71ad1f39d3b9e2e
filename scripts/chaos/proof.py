"""Reads back all that was acknowledged: each account as it was written, and its event in the audit trail."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc.aio

from scripts.chaos.users import Users
from weft.audit.v1.audit_pb2 import ListEntriesRequest
from weft.identity.v1.user_pb2 import BatchGetUsersRequest

CREATED = "weft.identity.v1.UserCreated"
BATCH = 100  # As many accounts as one call may ask for.
PAGE = 200  # The largest.
SETTLE_S_MAX = 90.0  # What is not there by then is lost: parts that died young come back within 15 s.
AGAIN_S = 0.5
CALL_S_MAX = 10.0
ASKED_AGAIN = {"UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"}


@dataclass
class Proof:
    """What became of what was acknowledged."""

    acknowledged: int
    lost: list[str] = field(default_factory=list)  # Ids of accounts that are not there, or are others.
    untold: list[str] = field(default_factory=list)  # Ids of accounts whose event never came.
    twice: list[str] = field(default_factory=list)  # Ids of accounts whose event came more than once.
    trail: bool = False  # Whether the audit trail was there to be asked.
    settled_s: float = 0.0  # Until all of it was found, or given up.

    @property
    def broken(self) -> int:
        return len(self.lost) + len(self.untold) + len(self.twice)


async def read_back(users: Users, audit: Any | None, began: datetime) -> Proof:
    """Asks until all is there, for a while. `audit`: the trail's stub, None where there is no trail."""
    start = time.monotonic()
    found = Proof(len(users.acknowledged), trail=audit is not None)
    found.lost = await _lost(users, start + SETTLE_S_MAX)
    if audit is not None:
        told = await _told(users, audit, began, start + SETTLE_S_MAX)
        found.untold = sorted(set(users.acknowledged) - set(told))
        found.twice = sorted(each for each, count in told.items() if count > 1)
    found.settled_s = time.monotonic() - start
    return found


async def _lost(users: Users, ends: float) -> list[str]:
    known, lost = sorted(users.acknowledged), []
    for first in range(0, len(known), BATCH):
        ids = known[first : first + BATCH]
        request = BatchGetUsersRequest(user_ids=ids)
        answer = await _answer(
            lambda request=request: users.admin.users.BatchGetUsers(
                request, metadata=users.admin.who, timeout=CALL_S_MAX
            ),
            ends,
        )
        there = {user.user_id: user.email for user in answer.users}
        lost += [user_id for user_id in ids if there.get(user_id) != users.acknowledged[user_id]]
    return lost


async def _told(users: Users, audit: Any, began: datetime, ends: float) -> Counter[str]:
    """How often each account's event is in the trail, once all are or time is up."""
    since = (
        (began - timedelta(hours=1)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    )  # Clocks may be wrong.
    told: Counter[str] = Counter()
    last = 0
    while True:
        request = ListEntriesRequest(
            page_size=PAGE,
            filter=f'type = "{CREATED}" AND event_time >= "{since}" AND sequence > {last}',
            order_by="sequence",
        )
        page = await _answer(
            lambda request=request: audit.ListEntries(request, metadata=users.admin.who, timeout=CALL_S_MAX),
            ends,
        )
        told.update(each.subject_id for each in page.entries if each.subject_id in users.acknowledged)
        last = max([last, *(each.sequence for each in page.entries)])
        if not page.entries:
            if users.acknowledged.keys() <= told.keys() or time.monotonic() > ends:
                return told
            await asyncio.sleep(AGAIN_S)


async def _answer(ask: Callable[[], Awaitable[Any]], ends: float) -> Any:
    """The answer, however often it must be asked for. Raises AioRpcError when time is up."""
    while True:
        try:
            return await ask()
        except grpc.aio.AioRpcError as error:
            if error.code().name not in ASKED_AGAIN or time.monotonic() > ends:
                raise
        await asyncio.sleep(AGAIN_S)
