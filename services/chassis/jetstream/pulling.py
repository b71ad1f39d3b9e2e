"""Messages of a durable consumer, in lists, by credit.

A pull has room for so many messages that were delivered and are not done. It asks again when half of the
room is neither taken nor promised, so the next messages are under way while these are worked on. Requests
that a server forgot (a leader that died tells nobody) are noticed by the heartbeats that fail to come.
"""

import asyncio
import json
from collections.abc import Callable
from typing import NamedTuple

from services.chassis.jetstream import headers as header
from services.chassis.jetstream.connection import Connection, Subscription
from services.chassis.jetstream.errors import Disconnected, Overrun, ProtocolError
from services.chassis.jetstream.protocol import Message

EXPIRES_S = 30.0  # Of a request; an idle consumer is asked anew so often.
HEARTBEAT_S = 1.0  # Of an idle request.
LOST_S = 2.5 * HEARTBEAT_S  # Without any sign, requests are taken for forgotten.
ROOM_MAX = 50_000  # More in one worker's hands is no prefetch but a hoard.
BYTES_MAX = 16 * 1024 * 1024  # Of payloads that one request may bring.
BUSY_S = 0.1  # Before asking anew when the server said no: it is choosing a leader, or stopping.
GONE = ("Consumer Deleted", "Consumer is push based")
# $JS.ACK.stream.consumer.deliveries.sequence.consumer_sequence.time.pending; else 11 or more, with domain and
# account before the stream (ADR-15).
ACK_TOKENS = 9


class Delivery(NamedTuple):
    """A message of a stream, and what its ack subject tells."""

    subject: bytes
    reply: bytes  # Where it is acknowledged.
    head: bytes
    payload: bytes
    deliveries: int  # 1: it is delivered for the first time, as far as the server remembers.
    sequence: int  # In the stream.
    nth: int  # Of the consumer's deliveries, since it was made or reset.
    at_ns: int  # When it was stored, since the epoch.
    pending: int  # How many of this consumer come after it.


def delivery(message: Message) -> Delivery:
    """Raises ProtocolError when the message is not from a consumer."""
    reply = message[1]
    short = reply.count(b".") == ACK_TOKENS - 1  # Then its end alone is looked at: half of the time.
    numbers = reply.rsplit(b".", 5)[1:] if short else reply.split(b".")[6:11]
    if len(numbers) < 5:
        raise ProtocolError("a message has no ack subject")
    try:
        values = (*message, *map(int, numbers))
    except ValueError:
        raise ProtocolError("an ack subject is not understood") from None
    return tuple.__new__(Delivery, values)  # As in protocol.py: half of the time.


class Place(NamedTuple):
    """What an ack subject names."""

    consumer: str
    sequence: int  # In the stream.

    @classmethod
    def of(cls, reply: bytes) -> "Place":
        tokens = reply.split(b".")
        first = 4 if len(tokens) == ACK_TOKENS else 6
        return cls(tokens[first - 1].decode(), int(tokens[first + 1]))


def like(reply: bytes, sequence: int, nth: int) -> bytes:
    """The ack subject of another message of that consumer, which was its `nth` delivery or an earlier one."""
    tokens = reply.split(b".")
    first = 4 if len(tokens) == ACK_TOKENS else 6
    tokens[first + 1], tokens[first + 2] = b"%d" % sequence, b"%d" % nth
    return b".".join(tokens)


Take = Callable[[list[Delivery]], None]


class Pull:
    """Messages of one durable for one worker."""

    def __init__(
        self,
        connection: Connection,
        stream: str,
        consumer: str,
        take: Take,
        room: int,
        bytes_max: int | None = None,
    ) -> None:
        """`take` must not block; it gets each list as it comes, in order of the consumer's deliveries.

        `bytes_max` bounds what one request may bring; absent: BYTES_MAX.
        """
        self._connection, self._take = connection, take
        self._bytes_max = bytes_max or BYTES_MAX
        self._ask_subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}".encode()
        self._inbox = ""
        self._subscription: Subscription | None = None
        self._room = min(room, ROOM_MAX)
        self._held, self._owed, self._asked = 0, 0, 0
        self._heard_at, self._quiet_until = 0.0, 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._off: Callable[[], None] | None = None
        self.gone = False  # The consumer was deleted.
        self.pending = 0  # How many waited at the server when it last told.

    @property
    def held(self) -> int:
        """Messages that were taken and are not done."""
        return self._held

    def start(self) -> None:
        """Begins to ask; goes on after each outage."""
        self._off = self._connection.on_connect(self._begin)
        self._tick()
        if self._connection.connected:
            self._begin()

    async def stop(self) -> None:
        """Takes no more; what was under way has been taken when this returns."""
        self._room = 0
        if self._off:
            self._off()
            self._off = None
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if self._subscription:
            subscription, self._subscription = self._subscription, None
            await self._connection.finish(subscription)

    def done(self, count: int = 1) -> None:
        """So many are out of hand, whatever became of them."""
        self._held -= count
        self._ask()

    def resize(self, room: int) -> None:
        """Room for so many from now on; 0 pauses."""
        self._room = min(room, ROOM_MAX)
        self._ask()

    def _begin(self) -> None:
        """On a new link: what was asked for before is not counted on."""
        if self._subscription:
            self._subscription.end()
        self._owed = 0
        self._inbox = self._connection.inbox()
        self._subscription = self._connection.subscribe(f"{self._inbox}.*", self._arrive)
        self._ask()

    def _ask(self) -> None:
        """Asks for what there is room for, when that is at least half of it."""
        undone = self._held + self._owed
        want = self._room - undone
        if undone > self._room // 2 or want <= 0 or self.gone or not self._subscription:
            return
        now = asyncio.get_running_loop().time()
        if now < self._quiet_until:
            return
        self._asked += 1
        request = {
            "batch": want,
            "expires": int(EXPIRES_S * 1e9),
            "idle_heartbeat": int(HEARTBEAT_S * 1e9),
            "max_bytes": self._bytes_max,
        }
        body = json.dumps(request).encode()
        reply = f"{self._inbox}.{want}".encode()
        try:
            self._connection.write(b"PUB %b %b %d\r\n%b\r\n" % (self._ask_subject, reply, len(body), body))
        except (Disconnected, Overrun):
            return  # `_begin` or `_tick` asks again.
        self._owed, self._heard_at = self._owed + want, now

    def _arrive(self, messages: list[Message]) -> None:
        self._heard_at = asyncio.get_running_loop().time()
        came = []
        for message in messages:
            if message[1] and not (message[1].startswith(b"$JS.FC")):
                came.append(delivery(message))
            else:
                self._told(message)
        if came:
            self._owed = max(0, self._owed - len(came))
            self._held += len(came)
            self.pending = came[-1].pending
            self._take(came)
        self._ask()

    def _told(self, message: Message) -> None:
        """A status: a heartbeat, or the end of a request."""
        code = header.status(message.head)
        if code == 100:
            return
        facts = header.decode(message.head)
        size = message.subject.rpartition(b".")[2]
        unserved = facts.get("Nats-Pending-Messages") or size.decode()
        self._owed = max(0, self._owed - int(unserved))
        if code in (409, 503):
            text = message.head.partition(b"\r\n")[0].decode(errors="replace")
            self.gone = any(word in text for word in GONE)
            if "MaxBytes" not in text:
                self._quiet_until = self._heard_at + BUSY_S

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(HEARTBEAT_S / 4, self._tick)
        if self._owed and loop.time() - self._heard_at > LOST_S:
            self._owed = 0
        self._ask()
