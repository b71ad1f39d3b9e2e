"""Registrations: those that come at once share a transaction, for each waits its turn among the changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from services.chassis.db import Database
from services.chassis.errors import Refusal
from services.chassis.events import Envelope, write
from services.chassis.grouping import Grouping
from services.registry.domain.instance import INSTANCES_MAX, Instance, InstanceIdReused, TooManyInstances
from services.registry.service import pack
from services.registry.store import instance as store, state


@dataclass(frozen=True)
class Registration:
    """What one caller asks for."""

    instance_id: UUID
    health: str
    columns: dict[str, Any]
    event: Envelope  # As caused by the caller; told if the instance was not there.


class Registering:
    """Of one process."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._group: Grouping[Registration, Instance] = Grouping(self._together)

    async def do(self, wanted: Registration) -> Instance:
        """Raises InstanceIdReused, TooManyInstances."""
        return await self._group.do(wanted)

    async def _together(self, wanted: Sequence[Registration]) -> Sequence[Instance | Refusal]:
        async with self._db.transaction() as tx:
            order = await state.locked(tx)
            now = await state.clock(tx)
            known = await store.many(tx, {each.instance_id for each in wanted})
            room = INSTANCES_MAX - await store.count(tx)
            events, answers = list[Envelope](), list[Instance | Refusal]()
            for each in wanted:
                row = known.get(each.instance_id)
                if row is None and len(events) < room:
                    row = Instance(
                        instance_id=each.instance_id,
                        **each.columns,
                        health=each.health or "SERVING",
                        revision=order.next(),
                        registered_at=now,
                    )
                    tx.add(row)
                    known[each.instance_id] = row
                    events.append(each.event)
                    state.tell(tx, row.revision, row.service, pack.told(row))
                answer = _answer(each, row)
                if isinstance(answer, Instance):
                    answer.expires_at = now + answer.lease
                answers.append(answer)
            await write(tx, events)
        return answers


def _answer(wanted: Registration, row: Instance | None) -> Instance | Refusal:
    if row is None:
        return TooManyInstances(max=INSTANCES_MAX)
    if row.settings != wanted.columns["settings"]:
        return InstanceIdReused(instance_id=wanted.instance_id)
    return row
