"""What was decided, written down: the state, its incidents and its events in one transaction.

It may come later than the decision, for the database may be what is away. A decision is written once, by its
revision, however often this is tried; and not at all when another process has decided since.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from uuid import UUID

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from services.chassis.db import Database, Tx
from services.chassis.events import emit
from services.health.domain.controller import ConditionChanged, Decision, ModeChanged
from services.health.domain.impact import Calls
from services.health.domain.incident import Incident
from services.health.domain.pin import PinRow
from services.health.domain.plan import WORSE, Mode
from services.health.domain.state import Pin, State, dump, load
from services.health.store import incident as incidents, pin as pins, state as store
from weft.health.v1 import events_pb2 as pb
from weft.health.v1.state_pb2 import Condition, Mode as ModePb


class Superseded(Exception):
    """Another process has taken the lease since."""


@dataclass(frozen=True)
class Pending:
    """Decisions of one step, which are not known to be written."""

    revision: int
    decisions: Sequence[Decision]


async def keep(db: Database, term: int, state: State, pending: Sequence[Pending]) -> dict[str, Pin]:
    """Returns the pins there are. Raises Superseded."""
    async with db.transaction() as tx:
        row = await store.locked(tx)
        if row.term != term:
            raise Superseded
        new = (each for each in pending if each.revision > row.revision)
        for decision in (one for each in new for one in each.decisions):
            await _note(tx, decision)
        for capability in (each for each in state.capabilities.values() if each.incident):
            await incidents.measured(tx, UUID(capability.incident), _impact(capability.impact))
        if pending or not (state.calm and load(row.state).calm):
            row.state, row.revision = dump(state), state.revision
        for name in await pins.expire(tx, db.clock.now()):
            await emit(tx, pb.ModeUnpinned(capability=name, expired=True))
        return {each.capability: pin(each) for each in await pins.every(tx)}


def pin(row: PinRow) -> Pin:
    return Pin(mode=Mode(row.mode), until=row.until.timestamp())


def _impact(impact: Mapping[str, Calls]) -> str:
    return json.dumps({name: asdict(each) for name, each in impact.items()})


async def _note(tx: Tx, decision: Decision) -> None:
    if isinstance(decision, ModeChanged):
        await _keep_incident(tx, decision)
    await emit(tx, _event(decision))


async def _keep_incident(tx: Tx, decision: ModeChanged) -> None:
    row = await incidents.find(tx, UUID(decision.incident))
    at = datetime.fromtimestamp(decision.at, UTC)
    if row is None:
        row = Incident(incident_id=UUID(decision.incident), capability=decision.capability, opened_at=at)
        row.worst, row.causes, row.closed_at, row.impact = decision.after.value, [], None, {}
        tx.add(row)
    if WORSE[decision.after] > WORSE[Mode(row.worst)]:
        row.worst = decision.after.value
    row.causes = sorted({*row.causes, *decision.causes})
    if decision.after is Mode.NORMAL:
        row.closed_at = at
        row.impact = {name: asdict(each) for name, each in decision.impact.items()}
    await tx.flush()


def _event(decision: Decision) -> Message:
    if isinstance(decision, ConditionChanged):
        return pb.ComponentChanged(
            component=decision.component,
            condition=Condition.Value(f"CONDITION_{decision.after}"),
            previous=Condition.Value(f"CONDITION_{decision.before}"),
            why=decision.why,
            change_time=stamp(decision.at),
        )
    return pb.ModeChanged(
        capability=decision.capability,
        mode=ModePb.Value(f"MODE_{decision.after}"),
        previous=ModePb.Value(f"MODE_{decision.before}"),
        causes=decision.causes,
        incident_id=decision.incident,
        change_time=stamp(decision.at),
    )


def stamp(at: float) -> Timestamp:
    made = Timestamp()
    made.FromMicroseconds(round(at * 1e6))
    return made
