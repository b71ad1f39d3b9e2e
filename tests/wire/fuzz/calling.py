"""A fuzzed client: calls of every kind, and a server that answers them with any frames.

Each call ends, and once; nothing escapes; when the connection is gone nobody waits.
"""

from __future__ import annotations

from typing import Any

from services.chassis.wire import frames
from services.chassis.wire.client.attempt import Attempt, UnaryAttempt
from services.chassis.wire.client.connection import ClientConnection
from services.chassis.wire.client.outcome import Status
from services.chassis.wire.hpack import literal
from services.chassis.wire.limits import Limits
from services.chassis.wire.stream import StreamGone
from tests.wire.fuzz.machine import HIGH_WATER_BYTES, LOOP, Session
from tests.wire.fuzz.serving import TIMES_S, described

# Small, so that a fuzzer's input meets them.
LIMITS = Limits(
    message_bytes_max=2_000,
    header_list_bytes_max=1_000,
    header_block_bytes_max=2_000,
    continuations_max=3,
    stream_window_bytes=3_000,
    connection_window_bytes=70_000,
    unread_bytes_max=10_000,
    pending_bytes_max=20_000,
    unsent_bytes_max=HIGH_WATER_BYTES,
    resets_max=20,
    idle_frames_max=60,
    keepalive_s=5.0,
)
BLOCK = b"".join(
    literal(name, value)
    for name, value in (
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", b"/a/u"),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
    )
)


class Asked:
    """One call, which is told of its end once."""

    response_bytes_max = 1_000

    def __init__(self) -> None:
        self.status: Status | None = None

    def commit(self, attempt: Attempt) -> None:
        assert attempt.headers is not None
        assert self.status is None

    def ended(self, attempt: Attempt, status: Status) -> None:
        assert self.status is None, "told twice"
        self.status = status


class Owner:
    """Knows its connection's state."""

    def __init__(self) -> None:
        self.lost_at = ""
        self.queue: dict[Any, None] = {None: None}  # Somebody waits, so that it hears of room.

    def opened(self, connection: ClientConnection) -> None:
        assert not self.lost_at

    def has_room(self, connection: ClientConnection) -> None:
        assert not self.lost_at

    def drains(self, connection: ClientConnection, pinged_too_often: bool) -> None:
        assert not connection.room

    def lost(self, connection: ClientConnection, reason: str) -> None:
        assert not self.lost_at, "told twice"
        self.lost_at = reason


class Peer(Session):
    """A client that begins calls whenever there is room."""

    def __init__(self, slow: bool) -> None:
        self.owner, self.asked = Owner(), list[Asked]()
        self.client = ClientConnection(LIMITS, LOOP, self.owner)
        super().__init__(self.client, slow)

    def call(self) -> None:
        """One unary call and one of streams, of which somebody reads."""
        for kind in (UnaryAttempt, Attempt):
            if self.client.room and not self.client.closing:
                self.asked.append(Asked())
                attempt = kind(self.client, self.asked[-1])
                self.client.open(attempt, BLOCK, (b"x" * 50, 0) if kind is UnaryAttempt else None)
                if kind is Attempt:
                    LOOP.create_task(_talk(attempt))

    def end(self) -> None:
        super().end()
        assert self.owner.lost_at
        assert all(asked.status is not None for asked in self.asked)


async def _talk(attempt: Attempt) -> None:
    try:
        for _ in range(3):
            if not attempt.send_message(b"y" * 400):
                await attempt.drained()
        attempt.send_end()
        while await attempt.read() is not None:
            pass
    except StreamGone:
        return


def answers(data: bytes) -> None:
    """Whole frames after the server's SETTINGS, in pieces as `described`."""
    manner, rest = data[:1], data[1:]
    if not manner:
        return
    peer = Peer(slow=bool(manner[0] & 1))
    peer.send(frames.settings({3: 6}))
    together = []
    for frame, behaviour in described(rest):
        peer.call()
        together.append(frame)
        if behaviour & 1:
            peer.send(b"".join(together))
            together.clear()
        if behaviour & 2:
            peer.transport.drain()
        if behaviour & 12:
            peer.wait(TIMES_S[behaviour >> 2 & 3])
    peer.send(b"".join(together))
    peer.end()
