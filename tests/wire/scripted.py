"""A scripted HTTP/2 server: takes a client's connection, reads its frames, answers with any bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.wire import octets as o
from tests.wire.peer import WAIT_S, Closed, Peer

HEAD = [(":status", "200"), ("content-type", "application/grpc")]
OK = [("grpc-status", "0")]


@dataclass
class Asked:
    """A call as the client has sent it."""

    stream: int
    fields: list[tuple[str, str]]
    body: bytes = b""
    ended: bool = False

    @property
    def messages(self) -> list[bytes]:
        return o.messages(self.body)


class Accepted(Peer):
    """One connection of a client."""

    _at = 0  # Frames that `call` has looked at.

    async def greet(self, *values: tuple[int, int], preface: bytes | None = None) -> None:
        """Reads the client's preface, sends ours; its SETTINGS are `seen[0]`."""
        octets = await asyncio.wait_for(self._reader.readexactly(len(o.PREFACE)), WAIT_S)
        assert octets == o.PREFACE
        await self.send(o.settings(*values) if preface is None else preface)
        first = await self.frame()
        assert (first.kind, first.flags) == (o.SETTINGS, 0), f"{first} does not end a client's preface"
        await self.send(o.settings(flags=o.ACK))

    async def call(self, whole: bool = True) -> Asked:
        """The next call; with all of its body, or only its headers. What has been read already counts."""
        while (head := await self._next()).kind not in (o.HEADERS, o.CONTINUATION) or not head.fields:
            pass
        asked, kept = Asked(head.stream, head.fields, ended=head.ends), self._at
        while whole and not asked.ended:
            frame = await self._next()
            if frame.stream == asked.stream:
                assert frame.kind in (o.DATA, o.WINDOW_UPDATE), f"the call ended with {frame}"
                asked.body += frame.payload if frame.kind == o.DATA else b""
                asked.ended = frame.ends
        self._at = kept
        return asked

    async def _next(self) -> o.Frame:
        """The frame after that which `_next` gave before."""
        if self._at >= len(self.seen):
            await self.frame()
        self._at += 1
        return self.seen[self._at - 1]

    async def answer(self, asked: Asked, *messages: bytes, status: int = 0) -> None:
        body = b"".join(map(o.message, messages))
        trailers = o.headers(asked.stream, [("grpc-status", str(status))], o.WHOLE)
        await self.send(o.headers(asked.stream, HEAD), o.data(asked.stream, body), trailers)

    async def echo(self) -> None:
        """Serves unary calls as they should be, until the client goes."""
        try:
            while True:
                asked = await self.call()
                await self.answer(asked, *asked.messages)
        except (Closed, TimeoutError):
            return


Script = Callable[[Accepted], Awaitable[object]]


@dataclass
class Scripted:
    """A listening scripted server."""

    port: int = 0
    connections: list[Accepted] = field(default_factory=list)
    failures: list[BaseException] = field(default_factory=list)
    done: asyncio.Event = field(default_factory=asyncio.Event)  # The first script has ended.

    async def play(self, script: Script, accepted: Accepted) -> None:
        try:
            await script(accepted)
        except (AssertionError, TimeoutError, Closed) as failure:
            self.failures.append(failure)
        finally:
            accepted.hang_up()
            if accepted is self.connections[0]:
                self.done.set()


@asynccontextmanager
async def scripted(script: Script, *then: Script) -> AsyncIterator[Scripted]:
    """Plays `script` with the first connection, `then` with those that follow, echo with any further."""
    scripted, tasks = Scripted(), set()
    plays = [script, *then]

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number, accepted = len(scripted.connections), Accepted(reader, writer)
        scripted.connections.append(accepted)
        chosen = plays[number] if number < len(plays) else _echo
        tasks.add(asyncio.ensure_future(scripted.play(chosen, accepted)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    scripted.port = server.sockets[0].getsockname()[1]
    try:
        yield scripted
        async with asyncio.timeout(WAIT_S):
            await scripted.done.wait()
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for connection in scripted.connections:
            connection.close()
        await asyncio.sleep(0)
    if scripted.failures:
        raise scripted.failures[0]


async def _echo(accepted: Accepted) -> None:
    await accepted.greet()
    await accepted.echo()
