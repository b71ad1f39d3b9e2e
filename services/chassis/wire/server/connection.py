"""A client's connection, as the server sees it: calls begin here; it ages, idles and drains."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from grpc import StatusCode

from services.chassis.wire import frames
from services.chassis.wire.connection import Connection
from services.chassis.wire.errors import ConnectionFault, ErrorCode, StreamFault
from services.chassis.wire.fields import Malformed
from services.chassis.wire.hpack import Header
from services.chassis.wire.keepalive import Keepalive
from services.chassis.wire.limits import ServerLimits
from services.chassis.wire.server import peer
from services.chassis.wire.server.call import Call
from services.chassis.wire.server.head import Head, trailers_only
from services.chassis.wire.settings import Setting
from services.chassis.wire.stream import Stream

if TYPE_CHECKING:
    from services.chassis.wire.server.server import Server

HEADS_MAX = 64  # Header lists that are kept read; callers of one connection look alike.
AGE_SPREAD = 0.1  # Connections that were made together do not end together.


class ServerConnection(Connection):
    """Opens a Call for each request."""

    preface_in = frames.PREFACE
    limits: ServerLimits

    def __init__(self, server: Server) -> None:
        super().__init__(server.limits, server.loop)
        self.server = server
        self.running = 0  # Handlers, also those whose stream is gone.
        self.peer_name = ""
        self.auth: dict[str, list[bytes]] = {}
        self.draining = False
        self._heads: dict[int, Head] = {}  # By the identity of the list, which the decoder shares.
        self._used = server.ticks  # When there was a call.
        self._pinged_at = -self.limits.ping_interval_s
        self._sent_at_ping = self._strikes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not self.server.admits(self) or not peer.speaks_http2(transport):
            self.closing = "not admitted"
            transport.abort()  # type: ignore[attr-defined] # any transport of a stream has it
            return
        self.peer_name, self.auth = peer.name(transport), peer.properties(transport)
        super().connection_made(transport)
        Keepalive(self).start()
        if self.limits.age_s is not None:
            spread = random.uniform(1 - AGE_SPREAD, 1 + AGE_SPREAD)
            self.after("age", self.limits.age_s * spread, self._aged)

    def settings(self) -> dict[int, int]:
        return super().settings() | {int(Setting.MAX_CONCURRENT_STREAMS): self.limits.streams_max}

    def is_idle(self, stream_id: int) -> bool:
        return stream_id > self.last_stream_id or not stream_id & 1

    # Calls.

    def on_open(self, stream_id: int, fields: list[Header], ended: bool) -> None:
        self._opens(stream_id)
        head = self._heads.get(id(fields))
        if head is None or head.fields is not fields:
            head = self._read_head(stream_id, fields)
        route = head.route
        if route is None or self.gone_away or len(self.streams) >= self.limits.streams_max:
            self._refuse(stream_id, head, ended)
        elif self.running >= 2 * self.limits.streams_max or not self.server.has_room():
            self._answer(stream_id, trailers_only(StatusCode.RESOURCE_EXHAUSTED, "too many calls"), ended)
        else:
            call = Call(self, stream_id, head, route)
            self.streams[stream_id] = call
            if route.request_streaming:
                call.start()
            if ended:
                call.receive_end()

    def _opens(self, stream_id: int) -> None:
        """§5.1.1."""
        if stream_id <= self.last_stream_id or not stream_id & 1:
            if self.is_idle(stream_id):
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a client's streams have odd numbers")
            raise ConnectionFault(ErrorCode.STREAM_CLOSED, "HEADERS on a closed stream")
        self.last_stream_id = stream_id

    def _read_head(self, stream_id: int, fields: list[Header]) -> Head:
        try:
            head = Head(fields)
        except Malformed as error:
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, str(error)) from None
        if head.refusal is None:
            head.route = self.server.route(head.path, fields)
        if self.decoder.shares:
            if len(self._heads) >= HEADS_MAX:
                self._heads.clear()
            self._heads[id(fields)] = head
        return head

    def _refuse(self, stream_id: int, head: Head, ended: bool) -> None:
        if head.refusal is not None:
            self._answer(stream_id, head.refusal, ended)
        elif head.route is None:
            self._answer(stream_id, trailers_only(StatusCode.UNIMPLEMENTED, "Method not found!"), ended)
        else:  # §8.7: nothing was processed, the client may try elsewhere.
            self.resets.spend(self.loop.time())
            self.reset(stream_id, ErrorCode.REFUSED_STREAM, late_frames=not ended)

    def _answer(self, stream_id: int, fields: list[Header], ended: bool) -> None:
        """An answer without a call."""
        self.send_headers(stream_id, fields, ended=True)
        if not ended:
            self.reset(stream_id, ErrorCode.NO_ERROR, late_frames=True)

    def on_too_long(self, stream_id: int, ended: bool) -> None:
        """§10.5.1, with the status that gRPC has for it."""
        if stream_id in self.streams:
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, "trailers are too long")
        self._opens(stream_id)
        bound = self.limits.header_list_bytes_max
        refusal = trailers_only(StatusCode.RESOURCE_EXHAUSTED, f"metadata is longer than {bound} bytes")
        self._answer(stream_id, refusal, ended)

    def on_forgotten(self, stream: Stream) -> None:
        self._used = self.server.ticks
        if self.gone_away and not self.streams:
            self.close()

    def handler_began(self) -> None:
        self.running += 1
        self.server.handler_began()

    def handler_ended(self) -> None:
        self.running -= 1
        self.server.handler_ended()

    def on_lost(self, reason: str) -> None:
        self.server.lost(self)

    # Signs of life.

    def on_ping(self) -> None:
        """gRPC's keepalive document: one that pings while nothing happens costs a server its sleep."""
        now, sent = self.loop.time(), self.sent
        if sent - self._sent_at_ping > 1:  # Besides the answer to the last: there is traffic.
            self._strikes = 0
        elif now - self._pinged_at < self.limits.ping_interval_s:
            self._strikes += 1
        self._pinged_at, self._sent_at_ping = now, sent
        if self._strikes > self.limits.ping_strikes_max:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too_many_pings")

    def sweep(self, tick: int) -> None:
        """What no timer of its own looks for, once in a while."""
        limits = self.limits
        if not self.streams:
            if limits.idle_s is not None and (tick - self._used) * limits.sweep_s >= limits.idle_s:
                self.drain()
            return
        now = self.loop.time()
        for call in [*self.streams.values()]:
            assert isinstance(call, Call)
            if call.is_late(now):
                call.expire()
            elif call.waits_for_request and (tick - call.born) * limits.sweep_s > limits.request_s:
                call.expire("the request did not come whole in time")
            elif call.is_stuck(tick, limits.stalled_s / limits.sweep_s):
                call.expire("nothing of the answer was taken in time")

    # The end.

    def drain(self) -> None:
        """Ends the connection when its calls have ended (§6.8).

        The first GOAWAY names no stream: calls on their way are still answered. The second, when the
        client has surely seen the first, names the last that we process.
        """
        if self.draining or self.closing:
            return
        self.draining = True
        self.send(frames.goaway(frames.STREAM_ID_MAX, ErrorCode.NO_ERROR, b"draining"))
        self.ping(self._drain_further)
        self.after("drain", self.limits.drain_ping_s, self._drain_further)

    def _drain_further(self) -> None:
        self.stop("drain")
        if self.gone_away or self.closing:
            return
        self.gone_away = True
        self.send(frames.goaway(self.last_stream_id, ErrorCode.NO_ERROR, b"draining"))
        if not self.streams:
            self.close()

    def _aged(self) -> None:
        self.drain()
        self.after("age", self.limits.age_grace_s, self._too_old)

    def _too_old(self) -> None:
        self.fail(ErrorCode.NO_ERROR, "the connection is too old")
