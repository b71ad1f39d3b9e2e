"""What a case of h2spec is: what is sent after the prefaces, and what must come of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from tests.wire import octets as o
from tests.wire.peer import Closed, Peer

Expectation = Callable[[Peer], Awaitable[None]]
Step = bytes | Callable[[Peer], Awaitable[object]]


@dataclass(frozen=True)
class Case:
    """`name` is h2spec's own; its requirement is held to the letter of RFC 9113 where h2spec is lenient."""

    id: str
    name: str
    steps: Sequence[Step]
    expect: Expectation
    greeted: bool = True

    async def run(self, port: int) -> None:
        async with await (Peer.greeted(port) if self.greeted else Peer.open(port)) as peer:
            for step in self.steps:
                await (peer.send(step) if isinstance(step, bytes) else step(peer))
            await self.expect(peer)


def fault(*codes: int) -> Expectation:
    """A connection error (RFC 9113 §5.4.1): GOAWAY with one of the codes, and the end."""

    async def check(peer: Peer) -> None:
        assert await peer.fault() in codes

    return check


def reset(*codes: int, stream: int = 1) -> Expectation:
    """A stream error (RFC 9113 §5.4.2): RST_STREAM with one of the codes, and the connection lives."""

    async def check(peer: Peer) -> None:
        assert await peer.reset(stream) in codes

    return check


def either(*codes: int, stream: int = 1) -> Expectation:
    """A stream error, or a connection error of the same kind, where RFC 9113 leaves the choice."""

    async def check(peer: Peer) -> None:
        found = await peer.until(
            lambda f: f.kind == o.GOAWAY or (f.kind == o.RST_STREAM and f.stream == stream)
        )
        assert found.code in codes

    return check


async def pong(peer: Peer) -> None:
    """Nothing comes of it but the answer to a PING."""
    frames = [f for f in await peer.pong() if f.kind in (o.GOAWAY, o.RST_STREAM)]
    odd = [str(f) for f in frames if f.kind == o.GOAWAY or f.code != o.NO_ERROR]  # §8.1: early answers.
    assert odd == []


async def answered(peer: Peer) -> None:
    """A response on stream 1, and the connection lives."""
    response = await peer.response(1)
    assert response.reset in (None, o.NO_ERROR)
    assert response.headers[":status"]
    await pong(peer)


async def served(peer: Peer) -> None:
    """The call on stream 1 succeeds."""
    response = await peer.response(1)
    assert (response.status, response.reset) == (0, None)


async def closed(peer: Peer) -> None:
    """The connection ends."""
    await peer.rest()


async def let_be(peer: Peer) -> None:
    """No error is answered: the connection lives on, or ends without one."""
    try:
        await pong(peer)
    except Closed:
        assert [f.code for f in peer.seen if f.kind == o.GOAWAY and f.code != o.NO_ERROR] == []


async def ended(peer: Peer) -> None:
    """A step: waits for the end of stream 1."""
    await peer.response(1)


async def acknowledged(peer: Peer) -> None:
    """A step: waits for the acknowledgement of settings."""
    await peer.until(lambda frame: frame.kind == o.SETTINGS and frame.flags == o.ACK)


async def first_data(peer: Peer) -> None:
    """A step: waits for a DATA frame."""
    await peer.until(lambda frame: frame.kind == o.DATA)


async def one_byte(peer: Peer) -> None:
    """The next DATA frame has one byte."""
    found = await peer.until(lambda frame: frame.kind == o.DATA)
    assert (found.stream, len(found.payload)) == (1, 1)
