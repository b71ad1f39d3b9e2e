"""Reservations: units that are held, until they are committed, released or their time runs out."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Literal
from uuid import UUID

from sqlalchemy.orm import Mapped, mapped_column

from services.chassis.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from services.inventory.domain.levels import Demand, Share
from services.inventory.domain.row import Row

HELD_MAX = timedelta(days=366)  # Backorders wait for months; whoever waits longer asks again.

Ending = Literal["COMMIT", "RELEASE", "EXPIRE"]


class UnknownReservation(NotFound):
    """There is no reservation {reservation_id}."""


class ReservationIdReused(AlreadyExists):
    """Reservation {reservation_id} was made with other lines."""


class ReservationNotHeld(FailedPrecondition):
    """Reservation {reservation_id} holds nothing any more: it is {state}."""


class MoreThanHeld(FailedPrecondition):
    """{wanted} of {sku} were named, {held} are held."""


class ExpiryRefused(InvalidArgument):
    """A reservation is held until a time from now on, at most {days} days ahead."""

    def __init__(self) -> None:
        super().__init__(days=HELD_MAX.days, field="expire_time")


class OperationIdRequired(InvalidArgument):
    """A part of a reservation is named: operation_id tells a repeat of the request from a second part."""

    def __init__(self) -> None:
        super().__init__(field="operation_id")


class ReservationRow(Row):
    """A reservation."""

    __tablename__ = "reservation"
    reservation_id: Mapped[UUID] = mapped_column(primary_key=True)
    state: Mapped[str]
    digest: Mapped[bytes]
    expire_at: Mapped[datetime]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class ReservationLineRow(Row):
    """What it holds of a SKU at a location."""

    __tablename__ = "reservation_line"
    reservation_id: Mapped[UUID] = mapped_column(primary_key=True)
    sku: Mapped[str] = mapped_column(primary_key=True)
    location_id: Mapped[UUID] = mapped_column(primary_key=True)
    held: Mapped[int]
    committed: Mapped[int]
    released: Mapped[int]


@dataclass(slots=True)
class Line:
    """What a reservation holds of a SKU at a location, and what became of the rest."""

    sku: str
    location_id: UUID
    held: int
    committed: int = 0
    released: int = 0


@dataclass(slots=True)
class Reservation:
    """A reservation with its lines."""

    reservation_id: UUID
    state: str
    digest: bytes
    expire_at: datetime
    created_at: datetime
    updated_at: datetime
    lines: list[Line] = field(default_factory=list)

    def end(self, ending: Ending, parts: Sequence[Demand] | None, now: datetime) -> list[Share]:
        """Ends all that is held, or these parts of it. Raises MoreThanHeld, and then nothing has changed.

        Returns what was ended; the state tells whether anything is still held.
        """
        shares = self._all() if parts is None else self._pick(parts)
        lines = {(line.sku, line.location_id): line for line in self.lines}
        for share in shares:
            line = lines[share.sku, share.location_id]
            line.held -= share.units
            if ending == "COMMIT":
                line.committed += share.units
            else:
                line.released += share.units
        if not any(line.held for line in self.lines):
            self.state = self._ended(ending)
        self.updated_at = now
        return shares

    def _ended(self, ending: Ending) -> str:
        if ending == "EXPIRE":
            return "EXPIRED"
        return "COMMITTED" if any(line.committed for line in self.lines) else "RELEASED"

    def _all(self) -> list[Share]:
        return [Share(line.sku, line.location_id, line.held) for line in self.lines if line.held]

    def _pick(self, parts: Sequence[Demand]) -> list[Share]:
        """Which lines give the parts, which `summed` has made."""
        left = [Share(line.sku, line.location_id, line.held) for line in self.lines if line.held]
        picked: list[Share] = []
        for part in parts:
            wanted, held = part.units, 0
            for n, share in enumerate(left):
                if share.sku == part.sku and part.location_id in (None, share.location_id):
                    held += share.units
                    take = min(wanted, share.units)
                    wanted -= take
                    left[n] = Share(share.sku, share.location_id, share.units - take)
                    picked += [Share(share.sku, share.location_id, take)] if take else []
            if wanted:
                raise MoreThanHeld(sku=part.sku, wanted=part.units, held=held)
        return picked


def new(
    reservation_id: UUID, digest: bytes, shares: Iterable[Share], times: tuple[datetime, datetime]
) -> Reservation:
    """A reservation that holds `shares`, summed by SKU and location; `times` are now and its expiry."""
    units: dict[tuple[str, UUID], int] = {}
    for share in shares:
        key = (share.sku, share.location_id)
        units[key] = units.get(key, 0) + share.units
    lines = [Line(sku, location_id, held) for (sku, location_id), held in units.items()]
    now, expire_at = times
    return Reservation(reservation_id, "HELD", digest, expire_at, now, now, lines)


def digest_of(demands: Sequence[Demand]) -> bytes:
    """The same for the same lines, however they were ordered or split; `summed` has made them."""
    said = "\n".join(f"{each.sku}\t{each.location_id or ''}\t{each.units}" for each in demands)
    return sha256(said.encode()).digest()


def check_expiry(expire_at: datetime, now: datetime) -> datetime:
    """Raises ExpiryRefused."""
    if not now < expire_at <= now + HELD_MAX:
        raise ExpiryRefused
    return expire_at
