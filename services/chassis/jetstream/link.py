"""One TCP connection to one server, from its handshake to its end; nothing here outlives it.

A request's inbox belongs to its link. So when a client moves to another server, what was asked of the old
one is still answered by it.
"""

import asyncio
import json
import logging
import secrets
import ssl
from collections import deque
from collections.abc import Callable
from typing import Any, cast

from services.chassis.jetstream.errors import (
    Disconnected,
    Insecure,
    JetStreamError,
    NoResponders,
    Overrun,
    ProtocolError,
    Unauthorized,
)
from services.chassis.jetstream.headers import status
from services.chassis.jetstream.protocol import Message, Parser, subscription
from services.chassis.jetstream.servers import Options, Server

CONNECT_S_MAX = (
    5.0  # From the first packet to the server's welcome; a server that is well takes milliseconds.
)
PING_EVERY_S = 5.0
PINGS_MAX = 3  # So many unanswered, and the server is gone, whatever TCP says.
WRITE_HIGH_BYTES = 1024 * 1024  # Unsent bytes at which those who can wait do.
UNSENT_BYTES_MAX = 32 * 1024 * 1024  # Unsent bytes at which those who cannot wait are refused.
REPLIES = b"0"  # The subscription of all inboxes of a link.
NO_RESPONDERS = 503
DENIED = ("authorization", "authentication")  # Words in what a server says that does not let us in.
PING, PONG = b"PING\r\n", b"PONG\r\n"

Sink = Callable[[list[Message]], None]

log = logging.getLogger("weft.jetstream")


class _Waiter:
    """Answers to one inbox, until there are enough, or the server says that there are no more."""

    __slots__ = ("answers", "count", "done")

    def __init__(self, count: int) -> None:
        self.count, self.answers = count, list[Message]()
        self.done: asyncio.Future[list[Message]] = asyncio.get_running_loop().create_future()


class Link(asyncio.Protocol):
    """Made by `connect`; `stirred` is set when it is lost or its server goes into lame duck mode."""

    def __init__(self, server: Server, options: Options) -> None:
        self.server, self._options = server, options
        self.info: dict[str, Any] = {}
        self.lost, self.stirred = False, asyncio.Event()
        self.informed: Callable[[Link], None] = lambda link: None  # Called at each INFO after the first.
        self._loop = asyncio.get_running_loop()
        self._parser = Parser(self._deliver, self._control)
        self._sinks: dict[bytes, Sink] = {REPLIES: self._answered}
        self._waiters: dict[bytes, _Waiter] = {}
        self._pongs: deque[asyncio.Future[None]] = deque()
        self._inbox, self._asked = b"_INBOX.%b." % secrets.token_hex(11).encode(), 0
        self._transport: asyncio.Transport | None = None
        self._writable, self._error = asyncio.Event(), ""
        self._greeted: asyncio.Future[None] = self._loop.create_future()
        self._ticking: asyncio.TimerHandle | None = None

    @classmethod
    async def connect(cls, server: Server, options: Options) -> "Link":
        """Raises OSError, TimeoutError, Unauthorized, Insecure or ProtocolError."""
        link = cls(server, options)
        try:
            async with asyncio.timeout(CONNECT_S_MAX):
                await link._open()
        except BaseException:
            link.close()
            raise
        return link

    @property
    def lame(self) -> bool:
        """Whether the server is about to close."""
        return bool(self.info.get("ldm"))

    @property
    def payload_bytes_max(self) -> int:
        """Of headers and payload together."""
        return int(self.info["max_payload"])

    async def _open(self) -> None:
        first = self._context() if self._options.tls_first else None
        name = (self.server.name or self.server.host) if first else None
        await self._loop.create_connection(
            lambda: self, *self.server.address, ssl=first, server_hostname=name
        )
        await self._greeted
        if not first and (self.server.tls or self.info.get("tls_required") or self._options.tls):
            await self._encrypt()
        if not self.info.get("headers"):
            raise ProtocolError("the server is too old: it knows no headers")
        hello = {
            **self._options.proof(self.info.get("nonce", "")),
            "name": self._options.name,
            "lang": "python-weft",
            "version": "1",
            "protocol": 1,  # The server may send INFO at any time.
            "verbose": False,
            "pedantic": False,
            "headers": True,
            "no_responders": True,
            "tls_required": self.server.tls or self._options.tls is not None,
        }
        inbox = subscription(self._inbox + b"*", b"", REPLIES)
        self._send(b"CONNECT %b\r\n%b" % (json.dumps(hello).encode(), inbox))
        await self.flush()
        self._ticking = self._loop.call_later(PING_EVERY_S, self._tick)

    def _context(self) -> ssl.SSLContext:
        return self._options.tls or ssl.create_default_context()

    async def _encrypt(self) -> None:
        if not self.info.get("tls_required") and not self.info.get("tls_available"):
            raise Insecure(f"{self.server.host}:{self.server.port} does not offer TLS")
        assert self._transport
        name = self.server.name or self.server.host
        self._transport = await self._loop.start_tls(
            self._transport, self, self._context(), server_hostname=name
        )
        self._prepare()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._prepare()

    def _prepare(self) -> None:
        assert self._transport
        self._transport.set_write_buffer_limits(WRITE_HIGH_BYTES)
        self._writable.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed(data)
        except ProtocolError as error:
            self._error = self._error or str(error)
            self.close()

    def connection_lost(self, error: Exception | None) -> None:
        self.close()

    def _deliver(self, sid: bytes, messages: list[Message]) -> None:
        if sink := self._sinks.get(sid):
            try:
                sink(messages)
            except Exception:
                log.exception("messages were lost to a failing subscriber")

    def _control(self, name: bytes, rest: bytes) -> None:
        if name == b"PING":
            self._send(PONG)
        elif name == b"PONG":
            if self._pongs and not (pong := self._pongs.popleft()).done():
                pong.set_result(None)
        elif name == b"INFO":
            self._inform(rest)
        elif name == b"-ERR":
            self._error = rest.decode(errors="replace").strip("'")
            log.warning("NATS: %s", self._error)

    def _inform(self, text: bytes) -> None:
        try:
            told = json.loads(text)
            self.info = {**self.info, **told}
            int(self.info["max_payload"])
        except (ValueError, TypeError, KeyError):
            raise ProtocolError("the server's INFO is not understood") from None
        if not self._greeted.done():
            self._greeted.set_result(None)
            return
        self.informed(self)
        if self.lame:
            self.stirred.set()

    def _answered(self, messages: list[Message]) -> None:
        for message in messages:
            waiter = self._waiters.get(message.subject)
            if waiter is None:
                continue
            code = status(message.head) if message.head else 0
            if code == NO_RESPONDERS and not message.payload:
                self._fail(waiter, NoResponders("nobody listens there"))
                continue
            waiter.answers.append(message)
            if (code or len(waiter.answers) == waiter.count) and not waiter.done.done():
                waiter.done.set_result(waiter.answers)

    @staticmethod
    def _fail(waiter: _Waiter, error: Exception) -> None:
        if not waiter.done.done():
            waiter.done.set_exception(error)

    def add(self, sid: bytes, sink: Sink) -> None:
        """Messages of the subscription `sid` go to `sink` from now on."""
        self._sinks[sid] = sink

    def drop(self, sid: bytes) -> None:
        self._sinks.pop(sid, None)

    def sids(self) -> list[bytes]:
        return [sid for sid in self._sinks if sid != REPLIES]

    def write(self, commands: bytes) -> None:
        """Sends, in the order of calls. Raises Disconnected; Overrun when the server does not read."""
        if self._transport is None or self.lost:
            raise Disconnected(self._error or "the connection ended")
        if self._transport.get_write_buffer_size() > UNSENT_BYTES_MAX:
            raise Overrun("the server does not read what it is sent")
        self._transport.write(commands)

    def _send(self, commands: bytes) -> None:
        if self._transport is not None and not self.lost:
            self._transport.write(commands)

    async def drain(self) -> None:
        """Waits until little is unsent, or the link is lost."""
        await self._writable.wait()

    async def ask(
        self, command: Callable[[bytes], bytes], timeout_s: float, answers: int = 1
    ) -> list[Message]:
        """Sends what `command` makes of a fresh inbox, and waits for that many answers to it.

        Fewer come when one of them is a status, which is then the last.
        Raises Disconnected, NoResponders, TimeoutError.
        """
        self._asked += 1
        inbox = self._inbox + b"%d" % self._asked
        waiter = self._waiters[inbox] = _Waiter(answers)
        try:
            self.write(command(inbox))
            async with asyncio.timeout(timeout_s):
                return await waiter.done
        finally:
            del self._waiters[inbox]

    async def flush(self) -> None:
        """Waits until the server has taken all that was sent, and all that it sent before is here."""
        pong: asyncio.Future[None] = self._loop.create_future()
        self._pongs.append(pong)
        self._send(PING)
        if self.lost:
            raise self._reason()
        await pong

    @property
    def busy(self) -> bool:
        """Whether answers are still waited for."""
        return bool(self._waiters)

    def _tick(self) -> None:
        """Asks whether the server is there. Counts answers and not seconds: we may have been frozen."""
        self._ticking = self._loop.call_later(PING_EVERY_S, self._tick)
        if len(self._pongs) >= PINGS_MAX:
            self._error = self._error or "the server no longer answers"
            self.close()
            return
        self._pongs.append(self._loop.create_future())
        self._send(PING)

    def close(self) -> None:
        """Ends the connection; whoever waits for an answer is told."""
        if self.lost:
            return
        self.lost = True
        if self._ticking:
            self._ticking.cancel()
        if self._transport:
            # Not `close`: it would wait for a server that does not read.
            if self._transport.get_write_buffer_size():
                self._transport.abort()
            else:
                self._transport.close()
        self._writable.set()
        self.stirred.set()
        reason = self._reason()
        for future in (self._greeted, *self._pongs):
            if not future.done():
                future.set_exception(reason)
                future.exception()  # A tick's answer is waited for by nobody.
        for waiter in list(self._waiters.values()):
            self._fail(waiter, reason)

    def _reason(self) -> JetStreamError:
        if any(word in self._error.lower() for word in DENIED):
            return Unauthorized(self._error)
        return Disconnected(self._error or "the connection ended")
