"""A cart, and what may be done with it."""

import unicodedata
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from enum import Enum
from uuid import UUID, uuid5

from services.chassis.errors import Aborted, AlreadyExists, FailedPrecondition, NotFound

LINES_MAX = 200  # Saved ones too: what one question to inventory may ask for, and a page that people see.
UNITS_MAX = 100_000  # Of a line; whoever wants more asks for a price.
COUPONS_MAX = 10  # What a quote takes.
SAVED = UUID("5e2f0f35-6f6c-4f0e-8a2b-6d1f5b7c9a10")  # Of ids of carts that take what was saved for later.


class UnknownCart(NotFound):
    """There is no cart {cart_id}."""


class NoOpenCart(NotFound):
    """The customer {customer_id} has no open cart."""


class CartIdReused(AlreadyExists):
    """Cart {cart_id} was made for something else."""


class CartOpen(FailedPrecondition):
    """The customer has an open cart already: {cart_id}."""


class CartClosed(FailedPrecondition):
    """The cart is {state} and changes no more."""


class CartEmpty(FailedPrecondition):
    """Nothing in the cart is to be bought."""


class CartFull(FailedPrecondition):
    """A cart has at most {max} lines."""


class TooManyUnits(FailedPrecondition):
    """A line has at most {max} units; {sku} would have {units}."""


class TooManyCoupons(FailedPrecondition):
    """A cart has at most {max} coupons."""


class CheckoutUnderWay(FailedPrecondition):
    """The order {order_id} is being made of the cart."""


class VersionMismatch(Aborted):
    """The cart is at version {version} by now."""


class State(Enum):
    OPEN = "OPEN"
    CHECKING_OUT = "CHECKING_OUT"
    CHECKED_OUT = "CHECKED_OUT"
    MERGED = "MERGED"
    EXPIRED = "EXPIRED"


@dataclass(frozen=True, slots=True)
class Line:
    """A sku in a cart."""

    sku: str
    units: int
    saved: bool
    at: datetime


@dataclass(slots=True, kw_only=True)
class Cart:
    """Whose it is, what is in it, and where it stands."""

    cart_id: UUID
    customer_id: UUID | None
    token_sha256: bytes | None
    currency: str
    country: str
    state: State = State.OPEN
    version: int = 1
    lines: dict[str, Line] = field(default_factory=dict)
    coupon_codes: list[str] = field(default_factory=list)
    order_id: UUID | None = None
    merged_into_id: UUID | None = None
    created_at: datetime
    updated_at: datetime
    expires_at: datetime

    @property
    def wanted(self) -> list[Line]:
        """What is to be bought."""
        return [line for line in self.lines.values() if not line.saved]

    @property
    def units(self) -> int:
        return sum(line.units for line in self.wanted)

    @property
    def expires_on(self) -> date:
        """The day (UTC) of its end."""
        return self.expires_at.astimezone(UTC).date()

    def check_open(self, version: int = 0) -> None:
        """Raises CheckoutUnderWay, CartClosed, VersionMismatch. Version 0: any."""
        if self.state is State.CHECKING_OUT:
            raise CheckoutUnderWay(order_id=self.order_id)
        if self.state is not State.OPEN:
            raise CartClosed(state=self.state.value)
        if version and version != self.version:
            raise VersionMismatch(version=self.version)

    def set(self, sku: str, units: int, saved: bool, now: datetime) -> bool:
        """False: it is so already. Raises CartFull, TooManyUnits."""
        before = self.lines.get(sku)
        if before and (before.units, before.saved) == (units, saved):
            return False
        if units > UNITS_MAX:
            raise TooManyUnits(max=UNITS_MAX, sku=sku, units=units)
        if before is None and len(self.lines) >= LINES_MAX:
            raise CartFull(max=LINES_MAX)
        self.lines[sku] = Line(sku, units, saved, before.at if before else now)
        return True

    def add(self, sku: str, units: int, now: datetime) -> bool:
        """To what is there; what was saved for later is wanted again. Raises CartFull, TooManyUnits."""
        before = self.lines.get(sku)
        return self.set(sku, units + (before.units if before else 0), False, now)

    def remove(self, sku: str) -> bool:
        return self.lines.pop(sku, None) is not None

    def apply(self, code: str) -> bool:
        """False: it is there already. Raises TooManyCoupons."""
        if code in self.coupon_codes:
            return False
        if len(self.coupon_codes) >= COUPONS_MAX:
            raise TooManyCoupons(max=COUPONS_MAX)
        self.coupon_codes.append(code)
        return True

    def withdraw(self, code: str) -> bool:
        if code not in self.coupon_codes:
            return False
        self.coupon_codes.remove(code)
        return True

    def changed(self, now: datetime, lasts: timedelta) -> None:
        self.version, self.updated_at, self.expires_at = self.version + 1, now, now + lasts

    def take_over(self, guest: "Cart", now: datetime) -> None:
        """All that is in the guest's. A line keeps to its bound. Raises CartFull."""
        for line in guest.lines.values():
            before = self.lines.get(line.sku)
            units = min(UNITS_MAX, line.units + (before.units if before else 0))
            self.set(line.sku, units, line.saved and (before is None or before.saved), now)
        room = COUPONS_MAX - len(self.coupon_codes)
        new = [code for code in guest.coupon_codes if code not in self.coupon_codes]
        self.coupon_codes += new[:room]
        guest.state, guest.merged_into_id, guest.token_sha256 = State.MERGED, self.cart_id, None

    def check_out(self, order_id: UUID, version: int) -> bool:
        """False: it was checked out as this order. Raises CartEmpty and what `check_open` raises."""
        if self.order_id == order_id and self.state in (State.CHECKING_OUT, State.CHECKED_OUT):
            return self.state is State.CHECKING_OUT
        self.check_open(version)
        if not self.wanted:
            raise CartEmpty
        self.state, self.order_id = State.CHECKING_OUT, order_id
        return True

    def reopen(self) -> None:
        self.state, self.order_id = State.OPEN, None

    def leftover(self, now: datetime, lasts: timedelta) -> "Cart | None":
        """A new cart with what was saved for later. None: nothing was."""
        saved = {line.sku: line for line in self.lines.values() if line.saved}
        if not saved:
            return None
        return replace(
            self,
            cart_id=leftover_id(self.cart_id),
            state=State.OPEN,
            version=1,
            lines=saved,
            coupon_codes=[],
            order_id=None,
            created_at=now,
            updated_at=now,
            expires_at=now + lasts,
        )


def leftover_id(cart_id: UUID) -> UUID:
    return uuid5(SAVED, str(cart_id))


def normal(code: str) -> str:
    """As pricing compares coupons: upper case, without dashes and spaces."""
    plain = unicodedata.normalize("NFKC", code).upper()
    return "".join(c for c in plain if not c.isspace() and unicodedata.category(c) != "Pd")
