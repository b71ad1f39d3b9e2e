"""Times, ids and decimals, to and from the wire."""

from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp


def stamp(at: datetime | None) -> Timestamp | None:
    if at is None:
        return None
    packed = Timestamp()
    packed.FromDatetime(at)
    return packed


def moment(given: Timestamp) -> datetime:
    return given.ToDatetime(UTC)


def maybe_id(text: str) -> UUID | None:
    return UUID(text) if text else None


def plain(number: Decimal) -> str:
    """As the contract writes decimals: no exponent, no zeros at the end."""
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
