"""A runner with nothing around it: deliveries go in, endings come out."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, fields as own_fields, is_dataclass
from typing import Any
from uuid import uuid4

import msgspec

from services.chassis.clock import uuid7
from services.chassis.errors import CallFailed
from services.chassis.jobs.handlers import Registry
from services.chassis.telemetry import Tracing
from services.worker.cells.keeper import Cells
from services.worker.delivery import Delivery, Run
from services.worker.ending import Ending, Verdict
from services.worker.performing import Performers
from services.worker.runner import Room, Runner
from weft.jobs.v1.attempt_pb2 import LogLine
from weft.jobs.v1.job_pb2 import Envelope, Payload

MODULES = ["tests.worker.handlers"]


class Heard:
    """An outside that remembers."""

    def __init__(self) -> None:
        self.endings: dict[str, tuple[Ending, Verdict]] = {}
        self.told: dict[str, int] = {}  # How often an end was told.
        self.runs: dict[str, Run] = {}
        self.checkpoints: dict[str, bytes] = {}
        self.dropped_ids: list[str] = []
        self.refusal: CallFailed | None = None
        self.stirred = asyncio.Event()

    def begun(self, run: Run) -> None:
        self.runs[run.delivery.envelope.job_id] = run
        self.stirred.set()

    def progress(self, run: Run) -> None:
        """The run has it."""

    def line(self, run: Run, line: LogLine) -> None:
        """The run has it."""

    async def checkpoint(self, run: Run, state: bytes) -> None:
        if self.refusal:
            raise self.refusal
        self.checkpoints[run.delivery.envelope.job_id] = state

    def dropped(self, delivery: Delivery) -> None:
        self.dropped_ids.append(delivery.envelope.job_id)

    def ended(self, delivery: Delivery, ending: Ending, verdict: Verdict) -> None:
        job_id = delivery.envelope.job_id
        self.endings[job_id] = (ending, verdict)
        self.told[job_id] = self.told.get(job_id, 0) + 1
        self.stirred.set()

    async def until_begun(self, *deliveries: Delivery) -> None:
        await self._until(lambda: all(each.envelope.job_id in self.runs for each in deliveries))

    async def end_of(self, delivery: Delivery) -> tuple[Ending, Verdict]:
        await self._until(lambda: delivery.envelope.job_id in self.endings)
        return self.endings[delivery.envelope.job_id]

    async def _until(self, happened: Any) -> None:
        async with asyncio.timeout(30):
            while not happened():
                self.stirred.clear()
                await self.stirred.wait()


class Laid:
    """A runner and who hears of it."""

    def __init__(self, runner: Runner, heard: Heard, registry: Registry) -> None:
        self.runner, self.heard, self.registry = runner, heard, registry

    async def run(self, delivery: Delivery) -> tuple[Ending, Verdict]:
        self.runner.take([delivery])
        return await self.heard.end_of(delivery)


@asynccontextmanager
async def running(
    room: Room | None = None, modules: Sequence[str] = MODULES, apart: Sequence[str] = ()
) -> AsyncIterator[Laid]:
    """`apart` are the modules that another process can load, if not all."""
    registry = Registry.of(modules)
    heard = Heard()
    performers = Performers(registry, Cells(apart or modules))
    runner = Runner(registry, heard, Tracing(0), performers, room or Room(8, 2, 2))
    try:
        yield Laid(runner, heard, registry)
    finally:
        await runner.close()


def delivery(type_name: str, payload: Any = None, **fields: Any) -> Delivery:
    """A job with a payload; `fields` that Delivery has are its, others the envelope's."""
    names = [each.name for each in own_fields(Delivery) if each.init and each.name in fields]
    own = {name: fields.pop(name) for name in names}
    data = (
        b"" if payload is None else msgspec.json.encode(asdict(payload) if is_dataclass(payload) else payload)
    )  # type: ignore[arg-type]
    packed = Payload(data=data, content_type="application/json" if payload is not None else "")
    envelope = Envelope(
        **{
            "job_id": str(uuid7()),
            "run": 1,
            "attempt": 1,
            "queue": "default",
            "type": type_name,
            "payload": packed,
            "trace": f"00-{uuid4().hex}-{uuid4().hex[:16]}-00",
            **fields,
        }
    )
    return Delivery(envelope, **{"due_s": time.time(), "handle": object(), **own})
