"""Reserving: many callers' requests in one transaction, each decided by itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.chassis.clock import Clock
from services.chassis.db import Database, Tx
from services.chassis.errors import Refusal
from services.chassis.events import Envelope, Provenance
from services.chassis.grouping import Grouping
from services.inventory import metrics
from services.inventory.domain import reservation as rules
from services.inventory.domain.level import OutOfStock
from services.inventory.domain.levels import Demand, Levels, Share
from services.inventory.domain.location import UnknownLocation
from services.inventory.domain.reservation import Reservation
from services.inventory.service.writing import Writing, amounts, announced, common
from services.inventory.store import level as levels, location as locations, reservation as store
from weft.inventory.v1.events_pb2 import StockReserved

Answer = Reservation | Refusal

LINES_MAX = 500  # Of one transaction, as one request may have: their levels are locked for tens of ms.


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A request."""

    reservation_id: UUID
    demands: Sequence[Demand]  # Summed.
    digest: bytes
    expire_at: datetime
    by: Provenance


class Holding:
    """Holds stock. Nobody else adds to what is reserved."""

    def __init__(self, db: Database, clock: Clock, writing: Writing) -> None:
        self._db, self._clock, self._writing = db, clock, writing
        self._group: Grouping[Hold, Reservation] = Grouping(
            self.together, LINES_MAX, lambda one: len(one.demands)
        )

    async def hold(self, hold: Hold) -> Reservation:
        """Raises what the contract names."""
        return await self._group.do(hold)

    async def together(self, holds: Sequence[Hold]) -> list[Answer]:
        """Each with its own outcome; of several with one id the first is done and the others repeat it."""
        metrics.TOGETHER.observe(len(holds))
        first: dict[UUID, Hold] = {}
        for hold in holds:
            first.setdefault(hold.reservation_id, hold)
        answers = await self._write(list(first.values()))
        return [_own(hold, answers[hold.reservation_id]) for hold in holds]

    async def _write(self, holds: Sequence[Hold]) -> dict[UUID, Answer]:
        now = self._clock.now()
        async with self._db.fast() as tx:
            found = await levels.lock_skus(tx, {demand.sku for hold in holds for demand in hold.demands})
            decided = {hold.reservation_id: _decide(hold, found, now) for hold in holds}
            made = [answer for answer in decided.values() if isinstance(answer, Reservation)]
            new = await store.add(tx, made, now)
            for reservation in made:
                if reservation.reservation_id not in new:
                    _undo(reservation, found)
            if new:
                fresh = [hold for hold in holds if hold.reservation_id in new]
                told = [event for hold in fresh for event in _told(hold, decided[hold.reservation_id], now)]
                by = common(hold.by for hold in fresh)
                await self._writing.write(tx, found, now, told, by)
            old = decided.keys() - new
            known = await store.many(tx, old) if old else {}
            missing = await _missing(
                tx, [hold for hold in holds if hold.reservation_id in old - known.keys()]
            )
        return decided | missing | known


def _decide(hold: Hold, found: Levels, now: datetime) -> Answer:
    try:
        expire_at = rules.check_expiry(hold.expire_at, now)
        shares = found.hold(hold.demands)
    except (OutOfStock, rules.ExpiryRefused) as refusal:
        return refusal
    return rules.new(hold.reservation_id, hold.digest, shares, (now, expire_at))


def _undo(reservation: Reservation, found: Levels) -> None:
    """It had been made before: what was decided now is nobody's."""
    for line in reservation.lines:
        found.give_back(Share(line.sku, line.location_id, line.held))


def _told(hold: Hold, answer: Answer, now: datetime) -> list[Envelope]:
    assert isinstance(answer, Reservation)
    shares = [Share(line.sku, line.location_id, line.held) for line in answer.lines]
    events = []
    for lines in amounts(shares):
        event = StockReserved(reservation_id=str(answer.reservation_id), lines=lines)
        event.expire_time.FromDatetime(answer.expire_at)
        events.append(event)
    return announced(events, now, hold.by)


async def _missing(tx: Tx, holds: Sequence[Hold]) -> dict[UUID, Answer]:
    """Of requests that were refused: those that name a location which is not there."""
    named = {demand.location_id for hold in holds for demand in hold.demands if demand.location_id}
    unknown = named - await locations.known(tx, named) if named else set()
    refused: dict[UUID, Answer] = {}
    for hold in holds:
        for demand in hold.demands:
            if demand.location_id in unknown:
                refused[hold.reservation_id] = UnknownLocation(location_id=demand.location_id)
    return refused


def _own(hold: Hold, answer: Answer) -> Answer:
    """What a request is answered, given what became of its id."""
    if isinstance(answer, OutOfStock):
        metrics.REFUSED.inc()
    if isinstance(answer, Refusal) or answer.digest == hold.digest:
        return answer
    if not answer.digest:
        return rules.ReservationNotHeld(reservation_id=hold.reservation_id, state=answer.state)
    return rules.ReservationIdReused(reservation_id=hold.reservation_id)
