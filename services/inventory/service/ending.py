"""Committing, releasing and expiring: many callers' requests in one transaction, each decided by itself.

Reservations are locked first, then levels, each in one order: so nothing waits in a circle, and of two that
want the same unit the first to lock has it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from google.protobuf.message import Message

from services.chassis.clock import Clock
from services.chassis.db import AnyTx, Database
from services.chassis.errors import Refusal
from services.chassis.events import Envelope, Provenance
from services.chassis.grouping import Grouping
from services.inventory import metrics
from services.inventory.domain.levels import Demand, Levels, Share
from services.inventory.domain.movement import Cause
from services.inventory.domain.reservation import (
    Ending,
    Reservation,
    ReservationNotHeld,
    UnknownReservation,
)
from services.inventory.service.writing import ITSELF, Writing, amounts, announced, common
from services.inventory.store import level as levels, movement as operations, reservation as store
from weft.inventory.v1 import events_pb2 as events
from weft.inventory.v1.reservation_pb2 import ReservationState

Answer = Reservation | Refusal

EXPIRE_MAX = 200  # Reservations that one transaction expires: their levels are locked for tens of ms.


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """A request; `parts` None: all that is held."""

    reservation_id: UUID
    ending: Ending
    by: Provenance
    parts: Sequence[Demand] | None = None  # Summed; then there are an operation's id and digest.
    operation_id: UUID | None = None
    digest: bytes = b""


@dataclass(slots=True)
class _Done:
    """What one transaction does."""

    found: Mapping[UUID, Reservation]
    levels: Levels
    before: dict[UUID, bytes]  # Digests by operations that were done before.
    now: datetime
    touched: dict[UUID, Reservation] = field(default_factory=dict)
    begun: list[End] = field(default_factory=list)
    told: list[Envelope] = field(default_factory=list)
    causes: list[Provenance] = field(default_factory=list)


class Ends:
    """Ends what is held. Nobody else takes from what is reserved."""

    def __init__(self, db: Database, clock: Clock, writing: Writing) -> None:
        self._db, self._clock, self._writing = db, clock, writing
        self._group: Grouping[End, Reservation] = Grouping(self.together)

    async def end(self, end: End) -> Reservation:
        """Raises what the contract names."""
        return await self._group.do(end)

    async def together(self, ends: Sequence[End]) -> list[Answer]:
        """Each with its own outcome."""
        now = self._clock.now()
        async with self._db.fast() as tx:
            ids = {end.reservation_id for end in ends}
            found = await store.lock(tx, ids)
            buried = await self._bury(tx, ends, found, now)
            found |= await store.lock(tx, ids - found.keys()) if ids - found.keys() else {}
            done = await _begin(tx, found, ends, now)
            for end in ends:
                if end.reservation_id in buried:
                    done.told += _told(end, found[end.reservation_id], [], now)
                    done.causes.append(end.by)
                    buried.discard(end.reservation_id)
            answers = [_answer(done, end) for end in ends]
            await self._write(tx, done)
        return answers

    async def _bury(
        self, tx: AnyTx, ends: Sequence[End], found: Mapping[UUID, Reservation], now: datetime
    ) -> set[UUID]:
        """Ids that are released before they were reserved; a Reserve that is under way is waited for."""
        unknown = {
            end.reservation_id
            for end in ends
            if end.ending == "RELEASE" and end.parts is None and end.reservation_id not in found
        }
        return await store.bury(tx, unknown, now) if unknown else set()

    async def expire(self, now: datetime) -> int:
        """Expires what was due at `now`, as much as one transaction should. Returns how many."""
        async with self._db.fast() as tx:
            found = await store.lock_due(tx, now, EXPIRE_MAX)
            if found:
                ends = [End(reservation_id=each, ending="EXPIRE", by=ITSELF) for each in found]
                done = await _begin(tx, found, ends, self._clock.now())
                for end in ends:
                    _answer(done, end)
                await self._write(tx, done)
        metrics.EXPIRED.inc(len(found))
        return len(found)

    async def _write(self, tx: AnyTx, done: _Done) -> None:
        if done.touched:
            await store.write(tx, list(done.touched.values()), done.now)
        for end in done.begun:
            assert end.operation_id
            await operations.claim(tx, end.operation_id, end.digest, done.now)
        if done.told:
            await self._writing.write(tx, done.levels, done.now, done.told, common(done.causes))


async def _begin(tx: AnyTx, found: Mapping[UUID, Reservation], ends: Sequence[End], now: datetime) -> _Done:
    keys = {(line.sku, line.location_id) for each in found.values() for line in each.lines if line.held}
    locked = await levels.lock(tx, keys) if keys else Levels.of([])
    before = await operations.done(tx, [end.operation_id for end in ends if end.operation_id and end.parts])
    return _Done(found, locked, dict(before), now)


def _answer(done: _Done, end: End) -> Answer:
    """The reservation after the request, or why not; what is to be written is noted in `done`."""
    reservation = done.found.get(end.reservation_id)
    if reservation is None:
        return UnknownReservation(reservation_id=end.reservation_id)
    try:
        if _repeated(done, end, reservation):
            return reservation
        if reservation.state != "HELD":
            return ReservationNotHeld(reservation_id=end.reservation_id, state=reservation.state)
        shares = reservation.end(end.ending, end.parts, done.now)
    except Refusal as refusal:
        return refusal
    _note(done, end, reservation, shares)
    return reservation


def _repeated(done: _Done, end: End, reservation: Reservation) -> bool:
    """Whether it is so already. Raises OperationIdReused."""
    if end.parts is not None:
        assert end.operation_id
        before = done.before.get(end.operation_id)
        if before is not None:
            operations.check(before, end.operation_id, end.digest)
        return before is not None
    return reservation.state in (("COMMITTED",) if end.ending == "COMMIT" else ("RELEASED", "EXPIRED"))


def _note(done: _Done, end: End, reservation: Reservation, shares: Sequence[Share]) -> None:
    cause = Cause(
        kind="COMMITMENT",
        reason="SALE",
        operation_id=reservation.reservation_id,
        actor=end.by.actor,
    )
    for share in shares:
        if end.ending == "COMMIT":
            done.levels.commit(share, cause)
        else:
            done.levels.give_back(share)
    done.touched[reservation.reservation_id] = reservation
    if end.parts is not None and end.operation_id:
        done.before[end.operation_id] = end.digest
        done.begun.append(end)
    done.causes.append(end.by)
    done.told += _told(end, reservation, shares, done.now)


def _told(end: End, reservation: Reservation, shares: Sequence[Share], now: datetime) -> list[Envelope]:
    kind, facts = _event(end, reservation)
    made: list[Message] = [kind(lines=lines, **facts) for lines in amounts(shares)]
    return announced(made, now, end.by)


def _event(end: End, reservation: Reservation) -> tuple[type[Any], dict[str, Any]]:
    facts: dict[str, Any] = {"reservation_id": str(reservation.reservation_id)}
    if end.ending == "EXPIRE":
        return events.ReservationExpired, facts
    facts["state"] = ReservationState.Value(f"RESERVATION_STATE_{reservation.state}")
    facts["operation_id"] = str(end.operation_id or "")
    kind = events.ReservationCommitted if end.ending == "COMMIT" else events.ReservationReleased
    return kind, facts
