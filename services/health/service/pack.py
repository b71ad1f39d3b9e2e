"""What is known, as messages of the wire."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp

from services.health.domain import component, state
from services.health.domain.incident import FailedCaptures, Incident
from services.health.domain.pin import PinRow
from services.health.domain.plan import Mode
from weft.health.v1 import state_pb2 as pb
from weft.money.v1.money_pb2 import Money


def mode(name: str) -> pb.Mode.ValueType:
    return pb.Mode.Value(f"MODE_{name}")


def moment(at: float) -> Timestamp | None:
    """Of Unix seconds; None for what never was."""
    if not at:
        return None
    made = Timestamp()
    made.FromMicroseconds(round(at * 1e6))
    return made


def stamp(at: datetime | None) -> Timestamp | None:
    return moment(at.timestamp()) if at else None


def of_component(name: str, known: component.Component) -> pb.Component:
    return pb.Component(
        component=name,
        condition=pb.Condition.Value(f"CONDITION_{known.condition}"),
        change_time=moment(known.since),
        why=known.why,
        attempts=known.attempts,
        next_attempt_time=moment(known.next_at),
    )


def of_capability(name: str, known: state.Capability) -> pb.Capability:
    away = known.mode is not Mode.NORMAL and not known.pinned_until
    return pb.Capability(
        capability=name,
        mode=mode(known.mode),
        change_time=moment(known.since),
        causes=known.causes if away else (),
        incident_id=known.incident,
        pin_expire_time=moment(known.pinned_until),
    )


def of_pin(row: PinRow) -> pb.Pin:
    return pb.Pin(
        capability=row.capability,
        mode=mode(row.mode),
        expire_time=stamp(row.until),
        reason=row.reason,
        create_time=stamp(row.created_at),
    )


def of_incident(row: Incident, captures: Sequence[FailedCaptures]) -> pb.Incident:
    services = [pb.ServiceImpact(service=name, **row.impact[name]) for name in sorted(row.impact)]
    failed = [Money(amount_minor=each.amount_minor, currency=each.currency) for each in captures]
    return pb.Incident(
        incident_id=str(row.incident_id),
        capability=row.capability,
        worst=mode(row.worst),
        causes=row.causes,
        open_time=stamp(row.opened_at),
        close_time=stamp(row.closed_at),
        impact=pb.Impact(services=services, captures_failed=failed),
    )
