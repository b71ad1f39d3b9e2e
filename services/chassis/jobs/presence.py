"""By what others see that a worker lives, and within a millisecond that it does not any more.

A second connection, which does nothing else, bears the worker's name: NATS announces its end. Whoever hears
that asks the worker by its first connection. A worker that lives answers; of a dead one both connections are
gone, and NATS itself says that nobody listens.
"""

import json
from collections.abc import Callable
from dataclasses import replace

from services.chassis.jetstream.connection import Connection
from services.chassis.jetstream.errors import NoResponders
from services.chassis.jetstream.protocol import Message
from services.chassis.jetstream.servers import Options

NAME = "weft-worker-"  # And the worker's id: the name of its second connection.
ENDED = "$SYS.ACCOUNT.*.DISCONNECT"  # Heard only where the server's accounts let us (docs/operating.md).
BY_CLIENT = {"Client Closed", "Read Error", "Write Error"}  # A server that stops has reasons of its own.


def asked(worker: str) -> str:
    """Where a worker answers that it is there."""
    return f"jobs.alive.{worker}"


class Presence:
    """One worker's, from `open` to `close`."""

    def __init__(self, connection: Connection, options: Options, worker: str) -> None:
        """`options` are those of `connection`, which answers."""
        self._connection, self._worker = connection, worker
        self._line = Connection(replace(options, name=NAME + worker))

    async def open(self) -> None:
        """Raises OSError, TimeoutError or a JetStreamError while no server takes us."""
        self._answering = self._connection.subscribe(asked(self._worker), self._answer)
        await self._connection.flush()
        await self._line.open()

    def _answer(self, messages: list[Message]) -> None:
        for message in messages:
            self._connection.publish(message.reply.decode(), b"")

    async def close(self) -> None:
        """The worker ends, and has given back what it held."""
        await self._line.close()
        self._answering.end()


def on_end(connection: Connection, ended: Callable[[str], None]) -> Callable[[], None]:
    """Calls `ended` with each worker whose second connection ends. Returns what ends that.

    All who listen are told: if it were one of them, it might be the dead one.
    """

    def heard(messages: list[Message]) -> None:
        for message in messages:
            if worker := _worker(message.payload):
                ended(worker)

    return connection.subscribe(ENDED, heard).end


def _worker(advisory: bytes) -> str:
    """Whose connection ended of itself; empty: no worker's."""
    try:
        told = json.loads(advisory)
        name, reason = str(told["client"].get("name", "")), told.get("reason")
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""
    return name.removeprefix(NAME) if name.startswith(NAME) and reason in BY_CLIENT else ""


async def alive(connection: Connection, worker: str, patience_s: float) -> bool | None:
    """Whether it answers; None when it neither answers nor is known to be gone. Raises Disconnected."""
    try:
        await connection.request(asked(worker), timeout_s=patience_s)
    except TimeoutError:
        return None
    except NoResponders:
        return False
    return True
