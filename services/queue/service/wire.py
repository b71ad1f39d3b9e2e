"""The queue's own connection to NATS for what is done by the thousand: publishing, reading, deleting."""

import asyncio
import json
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from typing import Any

from services.chassis.host import Tools
from services.chassis.jetstream import headers
from services.chassis.jetstream.connection import Connection
from services.chassis.jetstream.errors import JetStreamError
from services.chassis.jetstream.publisher import Publisher
from services.chassis.jetstream.servers import Options
from services.chassis.jetstream.stream import Stream
from services.chassis.jobs import subjects
from services.chassis.jobs.telling import told
from weft.jobs.v1.live_pb2 import Control, Same, Update


class Wire:
    """Opened before the first call, closed when the process ends."""

    def __init__(self, tools: Tools) -> None:
        self.connection = Connection(Options.of(tools.settings.nats_url, name=f"weft-{tools.name}"))
        self.publisher = Publisher(self.connection)
        self.jobs = Stream(self.connection, subjects.STREAM)

    async def open(self) -> None:
        """Raises OSError while no server answers."""
        await self.connection.open()

    async def hold(self) -> None:
        """Runs until the process ends, and closes the connection then."""
        try:
            await asyncio.Event().wait()
        finally:
            await self.connection.close()

    def tell(self, updates: Iterable[Update], same: Iterable[Same] = ()) -> None:
        """To whoever watches. Nobody waits for it; while NATS is away nobody hears of it."""
        with suppress(JetStreamError):
            self.connection.write(told(updates, same))

    def order(self, control: Control, worker: str = "") -> None:
        """To one worker, or to all."""
        to = subjects.control(worker) if worker else subjects.EVERYONE
        with suppress(JetStreamError):
            self.connection.publish(to, control.SerializeToString())

    async def remove_message(self, row: Any) -> None:
        """What of a job stands in the stream; `row` is of the store's view. Should NATS be away: nothing."""
        sequence = row["placed"] or (None if row["recorded"] else row["sequence"])
        with suppress(JetStreamError, TimeoutError):
            await self.jobs.purge(subjects.later(row["queue"], str(row["job_id"])))
            if sequence:
                await self.jobs.delete(sequence)

    async def next_at(self, subject: str, sequence: int) -> datetime | None:
        """When the first message of `subject` came that has at least that sequence."""
        ask = json.dumps({"seq": sequence, "next_by_subj": subject}).encode()
        try:
            found = await self.connection.request(f"$JS.API.DIRECT.GET.{subjects.STREAM}", ask)
        except (JetStreamError, TimeoutError):
            return None
        came = headers.decode(found.head).get("Nats-Time-Stamp", "")
        return datetime.fromisoformat(came[:26].rstrip("Z") + "+00:00") if came else None
