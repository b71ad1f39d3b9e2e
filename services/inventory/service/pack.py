"""Rows as messages of the wire, and the other way round."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp

from services.chassis.masks import etag
from services.inventory.domain.level import Stock
from services.inventory.domain.levels import Demand, summed
from services.inventory.domain.location import Location
from services.inventory.domain.movement import Movement
from services.inventory.domain.reservation import Reservation
from services.inventory.domain.transfer import Transfer
from weft.inventory.v1 import location_pb2, movement_pb2, reservation_pb2, stock_pb2, transfer_pb2


def location(row: Location) -> location_pb2.Location:
    settings = location_pb2.LocationSettings(
        name=row.name, priority=row.priority, country=row.country, not_for_sale=not row.for_sale
    )
    return location_pb2.Location(
        location_id=str(row.location_id),
        settings=settings,
        create_time=stamp(row.created_at),
        update_time=stamp(row.updated_at),
        etag=etag(row.revision),
    )


def stock(row: Stock | Any) -> stock_pb2.Stock:
    """A mapped row, or one of a statement."""
    return stock_pb2.Stock(
        sku=_get(row, "sku"),
        location_id=str(_get(row, "location_id")),
        on_hand=_get(row, "on_hand"),
        reserved=_get(row, "reserved"),
        threshold=_get(row, "threshold"),
        available=_get(row, "on_hand") - _get(row, "reserved") - _get(row, "threshold"),
        incoming=_get(row, "incoming"),
        alert_at=_get(row, "alert_at"),
        revision=_get(row, "revision"),
        update_time=stamp(_get(row, "updated_at")),
    )


def movement(row: Movement) -> movement_pb2.Movement:
    return movement_pb2.Movement(
        movement_id=str(row.movement_id),
        sku=row.sku,
        location_id=str(row.location_id),
        kind=movement_pb2.MovementKind.Value(f"MOVEMENT_KIND_{row.kind}"),
        reason=movement_pb2.MovementReason.Value(f"MOVEMENT_REASON_{row.reason}"),
        units=row.units,
        on_hand=row.on_hand,
        operation_id=str(row.operation_id),
        reference=row.reference,
        actor=row.actor,
        effective_time=stamp(row.effective_at),
        create_time=stamp(row.created_at),
    )


def reason(value: int) -> str:
    """`PURCHASE` of MOVEMENT_REASON_PURCHASE."""
    name = movement_pb2.MovementReason.Name(value)  # type: ignore[arg-type]
    return name.removeprefix("MOVEMENT_REASON_")


def reservation(made: Reservation) -> reservation_pb2.Reservation:
    return reservation_pb2.Reservation(
        reservation_id=str(made.reservation_id),
        state=reservation_pb2.ReservationState.Value(f"RESERVATION_STATE_{made.state}"),
        lines=[
            reservation_pb2.ReservationLine(
                sku=line.sku,
                location_id=str(line.location_id),
                units=line.held + line.committed + line.released,
                held=line.held,
                committed=line.committed,
                released=line.released,
            )
            for line in made.lines
        ],
        expire_time=stamp(made.expire_at),
        create_time=stamp(made.created_at),
        update_time=stamp(made.updated_at),
    )


def demands(lines: Iterable[reservation_pb2.Demand]) -> Sequence[Demand]:
    return summed(
        Demand(line.sku, UUID(line.location_id) if line.location_id else None, line.units) for line in lines
    )


def transfer(row: Transfer | Any, lines: Iterable[Any]) -> transfer_pb2.Transfer:
    """A mapped row, or one of a statement."""
    return transfer_pb2.Transfer(
        transfer_id=str(_get(row, "transfer_id")),
        from_location_id=str(_get(row, "from_location_id")),
        to_location_id=str(_get(row, "to_location_id")),
        state=transfer_pb2.TransferState.Value(f"TRANSFER_STATE_{_get(row, 'state')}"),
        lines=transfer_lines(lines),
        reference=_get(row, "reference"),
        create_time=stamp(_get(row, "created_at")),
        update_time=stamp(_get(row, "updated_at")),
    )


def transfer_lines(rows: Iterable[Any]) -> list[transfer_pb2.TransferLine]:
    return [
        transfer_pb2.TransferLine(sku=row["sku"], units=row["units"], received=row["received"])
        for row in rows
    ]


def _get(row: Any, name: str) -> Any:
    return getattr(row, name) if hasattr(row, name) else row[name]


def stamp(at: datetime) -> Timestamp:
    made = Timestamp()
    made.FromDatetime(at)
    return made


def moment(stamped: Timestamp) -> datetime:
    return stamped.ToDatetime(UTC)
