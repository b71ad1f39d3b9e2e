"""Group commit: an idle publisher sends at once, a busy one makes an atomic batch of what came meanwhile.

JetStream commits an atomic batch with one acknowledgement and, where the server syncs always, one fsync. One
batch is under way at a time, so messages are stored in the order in which they were given. Each has an id:
a batch whose outcome is not known (a lost link, a silent server) is sent again, and what was stored already
is not stored twice, as long as that falls into the stream's duplicate window.

All messages of one publisher go to one stream: that is what a batch can span.
"""

import asyncio
import secrets
from collections import deque
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from services.chassis.jetstream import headers as header
from services.chassis.jetstream.connection import Connection, answer
from services.chassis.jetstream.errors import (
    Disconnected,
    JetStreamError,
    NoResponders,
    NotStored,
    Overrun,
    Refused,
)
from services.chassis.jetstream.protocol import publication, subject

BATCH_MAX = 1_000  # The most that JetStream takes in one atomic batch.
BATCH_BYTES_MAX = 8 * 1024 * 1024  # Beyond it a batch holds up those who wait for the next.
WAITING_BYTES_MAX = 64 * 1024 * 1024  # Of payloads that wait for their batch: then callers are refused.
ACK_S_MAX = 5.0  # An acknowledgement that has not come by then is lost.
GIVE_UP_S = 30.0  # Well within the shortest duplicate window in use (two minutes).
RETRY_S, RETRY_S_MAX = 0.05, 1.0
OVERHEAD_BYTES = 160  # Of the batch's own headers on each message.
STORE_FAILED = 10077  # Its code is that of an outage, but it is a limit of the stream that refuses for good.

IN_PROCESS = 10158  # An earlier attempt of this id is being stored: what became of it is told the next time.


class Stored(NamedTuple):
    """JetStream's word that it has a message."""

    sequence: int
    duplicate: bool  # It had one of this id already, which `sequence` is of.


class Item(NamedTuple):
    """What to publish."""

    subject: str
    payload: bytes
    message_id: str = ""  # Empty: one is made.
    headers: Mapping[str, str] = {}


class _Call:
    """One caller, who waits for all that it gave."""

    __slots__ = ("done", "failure", "missing", "stored")

    def __init__(self, count: int) -> None:
        self.stored: list[Stored | None] = [None] * count
        self.missing = count
        self.failure: Exception | None = None
        self.done: asyncio.Future[list[Stored | None]] = asyncio.get_running_loop().create_future()

    def settle(self, index: int, outcome: Stored | Exception) -> None:
        if isinstance(outcome, Exception):
            self.failure = self.failure or outcome
        else:
            self.stored[index] = outcome
        self.missing -= 1
        if self.missing or self.done.done():
            return
        if self.failure:
            self.done.set_exception(self.failure)
        else:
            self.done.set_result(self.stored)


class _Entry(NamedTuple):
    """A message that waits."""

    subject: bytes
    lines: bytes  # Of headers, the message's id among them.
    payload: bytes
    call: _Call
    place: int
    size: int  # In bytes, with all that is about it.


class Publisher:
    """Any number of callers, one batch under way."""

    def __init__(
        self, connection: Connection, *, batch_max: int = BATCH_MAX, give_up_s: float = GIVE_UP_S
    ) -> None:
        self._connection, self._batch_max, self._give_up_s = connection, batch_max, give_up_s
        self._waiting: deque[_Entry] = deque()
        self._bytes = 0
        self._pumping: asyncio.Task[None] | None = None
        self._prefix, self._batches = secrets.token_hex(8), 0

    @property
    def batches(self) -> int:
        """How many batches were sent."""
        return self._batches

    async def publish(
        self, to: str, payload: bytes, message_id: str = "", headers: Mapping[str, str] | None = None
    ) -> Stored:
        """Returns when it is stored.

        Raises Refused, TooLarge or ProtocolError for a message that cannot be stored, Overrun when too much
        waits already, NotStored when no confirmation came in time; the same id may be tried again then.
        """
        return (await self.publish_all([Item(to, payload, message_id, headers or {})]))[0]

    async def publish_all(self, items: Sequence[Item]) -> Sequence[Stored]:
        """As `publish`, in order; not all or none. Raises the first failure when the rest is settled."""
        if not items:
            return []
        call = _Call(len(items))
        entries = [self._entry(item, call, n) for n, item in enumerate(items)]
        size = sum([entry.size for entry in entries])
        if self._waiting and self._bytes + size > WAITING_BYTES_MAX:
            raise Overrun("more waits to be stored than JetStream keeps up with")
        self._bytes += size
        self._waiting.extend(entries)
        if self._pumping is None:
            self._pumping = asyncio.create_task(self._pump(), name="jetstream publisher")
        return await call.done  # type: ignore[return-value] # none is None any more

    def _entry(self, item: Item, call: _Call, index: int) -> _Entry:
        message_id = item.message_id or secrets.token_hex(16)
        if item.headers or not (message_id.isascii() and message_id.isprintable()):
            lines = header.lines({**item.headers, "Nats-Msg-Id": message_id})
        else:  # Nearly all are such, and half of the time is spent here.
            lines = b"Nats-Msg-Id: %b\r\n" % message_id.encode()
        size = len(lines) + len(item.payload) + OVERHEAD_BYTES
        to = subject(item.subject) if item.headers else _known(item.subject)
        entry = _Entry(to, lines, item.payload, call, index, size)
        if self._connection.connected:
            self._connection.check_size(entry.size)
        return entry

    async def close(self) -> None:
        """Waits until all that was given is settled."""
        if self._pumping:
            await asyncio.wait([self._pumping])

    async def _pump(self) -> None:
        try:
            while self._waiting:
                await self._settle(self._next())
        finally:
            self._pumping = None

    def _next(self) -> list[_Entry]:
        """The next batch: as many as may go together."""
        batch, size = list[_Entry](), 0
        while self._waiting and len(batch) < self._batch_max:
            size += self._waiting[0].size
            if batch and size > BATCH_BYTES_MAX:
                break
            batch.append(self._waiting.popleft())
            self._bytes -= batch[-1].size
        return batch

    async def _settle(self, batch: list[_Entry]) -> None:
        """Until each message is stored, refused or given up."""
        ends = asyncio.get_running_loop().time() + self._give_up_s
        delay = RETRY_S
        left = batch
        while left:
            failure: Exception = NotStored("JetStream did not confirm in time")
            try:
                async with asyncio.timeout_at(ends):
                    await self._connection.ready()
                    left = await self._send(left)
            except TimeoutError:
                pass
            except Exception as error:
                failure, ends = error, 0.0
            if left and asyncio.get_running_loop().time() + delay > ends:
                _fail(left, failure)
                return
            if left:
                await asyncio.sleep(delay)
                delay = min(delay * 2, RETRY_S_MAX)

    async def _send(self, batch: list[_Entry]) -> list[_Entry]:
        """One attempt. Returns those whose outcome is not known."""
        if len(batch) > 1:
            try:
                last = await self._commit(batch)
            except Refused:
                pass  # One of them may be the cause (a duplicate, a condition), or batches are not allowed.
            except (Disconnected, NoResponders, TimeoutError):
                return batch
            else:
                for n, entry in enumerate(batch, last - len(batch) + 1):
                    entry.call.settle(entry.place, Stored(n, duplicate=False))
                return []
        outcomes = await asyncio.gather(*map(self._store, batch))
        return [entry for entry, known in zip(batch, outcomes, strict=True) if not known]

    async def _commit(self, batch: list[_Entry]) -> int:
        """Stores all or none. Returns the sequence of the last."""
        link = self._connection.link
        await link.drain()
        self._batches += 1
        said = await link.ask(lambda inbox: self._atomic(batch, inbox), ACK_S_MAX)
        sequence: int = answer(said[0].payload)["seq"]
        return sequence

    def _atomic(self, batch: list[_Entry], inbox: bytes) -> bytes:
        """The commands of a batch; the last commits it, and is answered."""
        # The id is hashed by nobody: it only has to differ from those of all others that are under way.
        about = f"Nats-Batch-Id: {self._prefix}{self._batches}\r\nNats-Batch-Sequence: ".encode()
        fixed = len(b"NATS/1.0\r\n") + len(about) + 2 * len(b"\r\n")
        commands = []
        for n, entry in enumerate(batch[:-1], 1):
            number, lines, payload = b"%d" % n, entry.lines, entry.payload
            block = fixed + len(number) + len(lines)
            commands.append(
                b"HPUB %b %d %d\r\nNATS/1.0\r\n%b%b\r\n%b\r\n%b\r\n"
                % (entry.subject, block, block + len(payload), about, number, lines, payload)
            )
        last = batch[-1]
        lines = b"%b%d\r\nNats-Batch-Commit: 1\r\n%b" % (about, len(batch), last.lines)
        commands.append(publication(last.subject, inbox, header.framed(lines), last.payload))
        return b"".join(commands)

    async def _store(self, entry: _Entry) -> bool:
        """One message by itself. Returns whether its outcome is known."""
        link = self._connection.link
        head = header.framed(entry.lines)
        self._batches += 1
        try:
            said = await link.ask(
                lambda inbox: publication(entry.subject, inbox, head, entry.payload), ACK_S_MAX
            )
            stored = answer(said[0].payload)
        except Refused as refused:
            away = refused.code >= 500 and refused.err_code != STORE_FAILED
            if away or refused.err_code == IN_PROCESS:
                return False
            entry.call.settle(entry.place, refused)
        except (Disconnected, NoResponders, TimeoutError):
            return False
        except JetStreamError as error:
            entry.call.settle(entry.place, error)
        else:
            entry.call.settle(entry.place, Stored(stored["seq"], stored.get("duplicate", False)))
        return True


# What has headers of its own (a schedule) mostly has a subject of its own, too.
_known = lru_cache(maxsize=1_000)(subject)


def _fail(entries: list[_Entry], error: Exception) -> None:
    for entry in entries:
        entry.call.settle(entry.place, error)
