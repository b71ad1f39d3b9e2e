"""One level of stock: how much of a SKU lies at a location, is promised, is on its way.

    available = on hand - reserved - threshold

A positive threshold keeps units back from sale; a negative one sells that many before they have come.
"""

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Mapped, mapped_column

from services.chassis.errors import FailedPrecondition, InvalidArgument, NotFound
from services.inventory.domain.row import Row

ON_HAND_MAX = 10**12  # A thousand receipts of the largest kind; sums over all SKUs fit 64 bits.


class UnknownStock(NotFound):
    """Nothing is known of {sku} at location {location_id}."""


class OutOfStock(FailedPrecondition):
    """{wanted} of {sku} are wanted, {available} are available."""


class NotOnHand(FailedPrecondition):
    """{wanted} of {sku} were to be taken from location {location_id}, where {on_hand} lie."""


class NotEnoughFree(FailedPrecondition):
    """{wanted} of {sku} were to leave location {location_id}, where {free} lie that nobody reserved."""


class TooMuchStock(FailedPrecondition):
    """{sku} at location {location_id} would be more than {max}."""


class SkuRepeated(InvalidArgument):
    """{sku} is counted twice."""


class Stock(Row):
    """A level as a row."""

    __tablename__ = "stock"
    sku: Mapped[str] = mapped_column(primary_key=True)
    location_id: Mapped[UUID] = mapped_column(primary_key=True)
    on_hand: Mapped[int]
    reserved: Mapped[int]
    incoming: Mapped[int]
    threshold: Mapped[int]
    alert_at: Mapped[int | None]
    revision: Mapped[int]
    updated_at: Mapped[datetime]


class LowStock(Row):
    """A level that fell low, of which no mail has told yet."""

    __tablename__ = "low_stock"
    sku: Mapped[str] = mapped_column(primary_key=True)
    location_id: Mapped[UUID] = mapped_column(primary_key=True)
    available: Mapped[int]
    alert_at: Mapped[int]
    mail_id: Mapped[UUID | None]
    at: Mapped[datetime]


State = tuple[int, int, int, int, int | None]


@dataclass(slots=True)
class Level:
    """A level that is locked and may be changed."""

    sku: str
    location_id: UUID
    on_hand: int = 0
    reserved: int = 0
    incoming: int = 0
    threshold: int = 0
    alert_at: int | None = None
    revision: int = 0
    priority: int = 0
    _loaded: State = field(init=False)
    _low: bool = field(init=False)

    def __post_init__(self) -> None:
        self._loaded, self._low = self._state(), self.low

    def _state(self) -> State:
        return (self.on_hand, self.reserved, self.incoming, self.threshold, self.alert_at)

    @property
    def available(self) -> int:
        """Can be sold; below 0 where less was found than was reserved."""
        return self.on_hand - self.reserved - self.threshold

    @property
    def in_stock(self) -> int:
        """The part of it that lies there."""
        return max(0, self.on_hand - self.reserved - max(0, self.threshold))

    @property
    def low(self) -> bool:
        return self.alert_at is not None and self.available <= self.alert_at

    @property
    def changed(self) -> bool:
        """Since it was read."""
        return self._state() != self._loaded

    @property
    def fell_low(self) -> bool:
        """Since it was read."""
        return self.low and not self._low

    def move(self, units: int) -> None:
        """Adds to what lies there. Raises NotOnHand, TooMuchStock."""
        if units < 0 and self.on_hand + units < 0:
            facts = {"sku": self.sku, "location_id": self.location_id}
            raise NotOnHand(wanted=-units, on_hand=self.on_hand, **facts)
        if self.on_hand + units > ON_HAND_MAX:
            raise TooMuchStock(sku=self.sku, location_id=self.location_id, max=ON_HAND_MAX)
        self.on_hand += units

    def send(self, units: int) -> None:
        """Lets units go that nobody reserved; a threshold does not bind who moves stock.

        Raises NotEnoughFree.
        """
        free = self.on_hand - self.reserved
        if units > free:
            facts = {"sku": self.sku, "location_id": self.location_id}
            raise NotEnoughFree(wanted=units, free=max(0, free), **facts)
        self.on_hand -= units

    def commit(self, units: int) -> None:
        """What was reserved leaves."""
        self.on_hand -= units
        self.reserved -= units
