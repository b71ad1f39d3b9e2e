"""What scheduler does when others announce something: jobs that ended, and events that start workflows."""

import asyncio
from typing import Any
from uuid import UUID, uuid5

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from services.chassis.bus import Bus
from services.chassis.clock import Clock
from services.chassis.db import Database, Tx
from services.chassis.events import Envelope
from services.chassis.inbox import Consumer
from services.scheduler import knowing, reading
from services.scheduler.domain import expression
from services.scheduler.domain.expression import EvaluationFailed
from services.scheduler.domain.workflow import InputRefused, Trigger
from services.scheduler.hearing import FINAL, Hearing, reason_of
from services.scheduler.launching import Launcher
from services.scheduler.store import workflow as store
from weft.queue.v1.events_pb2 import JobEnded

NAMESPACE = UUID(
    "3a5d7c62-6f0e-4a9e-8d70-0d8b6a1f7c11"
)  # Of run ids that are derived from what started them.
LOOK_EVERY_S = 1.0  # A new kind of trigger is listened to within about this; nothing is missed meanwhile.


class Ends:
    """Handles the ends of jobs."""

    def __init__(self, hearing: Hearing) -> None:
        self._hearing = hearing

    async def job_ended(self, event: JobEnded, envelope: Envelope, tx: Tx) -> None:
        """A run of a schedule or a task of a workflow goes on."""
        outcome = FINAL.get(event.state)
        if outcome:
            await self._hearing.ended(tx, UUID(event.job_id), outcome, reason_of(event.reason))


class Triggers:
    """Starts workflows: a consumer for each type of event that starts any."""

    def __init__(self, db: Database, bus: Bus, clock: Clock, launcher: Launcher) -> None:
        self._db, self._bus, self._clock, self._launcher = db, bus, clock, launcher

    async def run(self) -> None:
        """For ever. Raises when the bus or the database is away; whoever runs it begins again."""
        heard: set[str] = set()
        async with asyncio.TaskGroup() as group:
            while True:
                async with self._db.transaction() as tx:
                    wanted = await store.event_types(tx)
                for kind in filter(None, map(knowing.event, wanted - heard)):
                    consumer = Consumer(self._db, self._bus, "scheduler", kind, self.trigger, self._clock)
                    group.create_task(consumer.run())
                heard |= wanted
                await asyncio.sleep(LOOK_EVERY_S)

    async def trigger(self, event: Message, envelope: Envelope, tx: Tx) -> None:
        """Starts a run of each workflow that waits for the event. The event's id makes the run's."""
        for row in await store.triggered_by(tx, envelope.type):
            if envelope.at < row.since_at:
                continue
            workflow = await store.get(tx, row.workflow_id)
            version = await store.version(tx, row.workflow_id, workflow.version)
            given = _input(reading.definition(version.settings).triggers[row.number], event, envelope)
            run_id = uuid5(NAMESPACE, f"{envelope.id}:{row.workflow_id}:{row.number}")
            try:
                if given is not None:
                    await self._launcher.start(tx, row.workflow_id, given, f"event:{envelope.id}", run_id)
            except InputRefused:
                continue  # What the workflow does not take, it was not meant to be started by.


def _input(trigger: Trigger, event: Message, envelope: Envelope) -> dict[str, Any] | None:
    """None: the filter does not hold."""
    about = ("id", "key", "subject", "actor")
    plain = MessageToDict(event, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    values = {
        "event": expression.plain(plain),
        "envelope": {name: str(getattr(envelope, name)) for name in about},
    }
    try:
        if not expression.holds(trigger.filter, values):
            return None
        return expression.mapped(trigger.inputs, values)
    except EvaluationFailed:
        return None
