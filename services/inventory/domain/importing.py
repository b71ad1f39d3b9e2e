"""Rows from outside: each is sound by itself, or refused by name."""

import re
from dataclasses import dataclass
from uuid import UUID

from services.inventory.domain.level import Level

SKU = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:#/-]{0,63}", re.ASCII)
ROW_UNITS_MAX = 10**9  # As CountStock and SetThreshold have it.


class BadRow(Exception):
    """A row that is not taken. No refusal of the call: the others are."""

    def __init__(self, field: str, reason: str, message: str) -> None:
        super().__init__(message)
        self.field, self.reason, self.message = field, reason, message


@dataclass(frozen=True, slots=True)
class NewLevel:
    """What a row says; None: nothing of that."""

    sku: str
    location_id: UUID
    on_hand: int | None
    threshold: int | None
    alert_at: int | None

    def check(self) -> None:
        """Raises BadRow."""
        if not SKU.fullmatch(self.sku):
            raise BadRow(
                "sku",
                "BAD_SKU",
                "A SKU has 1 to 64 letters, digits and ._:#/-, and begins with one of the first two.",
            )
        _within("on_hand", self.on_hand, 0)
        _within("threshold", self.threshold, -ROW_UNITS_MAX)
        _within("alert_at", self.alert_at, -ROW_UNITS_MAX)
        if self.on_hand is None and self.threshold is None and self.alert_at is None:
            raise BadRow(
                "on_hand", "NOTHING_SAID", "The row names neither on_hand nor threshold nor alert_at."
            )

    def differs(self, level: Level) -> bool:
        """Whether it says anything new."""
        said = (
            (self.on_hand, level.on_hand),
            (self.threshold, level.threshold),
            (self.alert_at, level.alert_at),
        )
        return any(new is not None and new != old for new, old in said)


def location_of(text: str) -> UUID:
    """Raises BadRow."""
    try:
        return UUID(text)
    except ValueError:
        raise BadRow("location_id", "BAD_LOCATION_ID", "A location's id is a UUID.") from None


def unknown_location(location_id: UUID) -> BadRow:
    return BadRow("location_id", "UNKNOWN_LOCATION", f"There is no location {location_id}.")


def _within(field: str, value: int | None, least: int) -> None:
    """Raises BadRow."""
    if value is not None and not least <= value <= ROW_UNITS_MAX:
        raise BadRow(field, "OUT_OF_BOUNDS", f"{field} lies between {least} and {ROW_UNITS_MAX}.")
