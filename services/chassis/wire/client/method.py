"""What the calls of one method have in common: how it is coded, how it is configured, its header block."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import grpc

from services.chassis.wire import messages, metadata
from services.chassis.wire.client.deadlines import Deadlines
from services.chassis.wire.client.options import Options
from services.chassis.wire.client.throttle import Throttle
from services.chassis.wire.hpack import literal
from services.chassis.wire.metadata import Metadatum

Encode = Callable[[Any], bytes] | None
Decode = Callable[[bytes], Any] | None
Message = tuple[bytes, int]  # Payload and Compressed-Flag.

BLOCKS_MAX = 64  # Header blocks that are kept ready for a method, each for another timeout.
COMPRESSED_MIN = 64  # Smaller messages do not shrink.


class Placing(Protocol):
    """What calls need of a channel."""

    loop: asyncio.AbstractEventLoop
    options: Options
    deadlines: Deadlines
    throttle: Throttle | None
    replay_bytes: int  # Kept for other attempts, over all calls.

    def place(self, waiting: Waiting) -> None:
        """Begins `waiting` on some connection, now or when there is one."""

    def withdraw(self, waiting: Waiting) -> None:
        """It is not to begin any more."""


class Waiting(Protocol):
    """A call, or an attempt of one, that wants a connection."""

    wait_for_ready: bool
    avoid: Any  # Targets that have had an attempt of the same call.

    def begin(self, connection: Any, target: Any) -> None: ...
    def refuse(self, code: grpc.StatusCode, details: str) -> None: ...


class Method:
    """One rpc on one channel."""

    def __init__(self, channel: Placing, path: str, encode: Encode, decode: Decode) -> None:
        options = channel.options
        self.channel, self.path, self.encode, self.decode = channel, path, encode, decode
        self.config = config = options.config.method(path)
        limits = options.limits
        self.response_bytes_max = _least(config.response_bytes_max, limits.message_bytes_max)
        self.request_bytes_max = _least(config.request_bytes_max, options.request_bytes_max)
        self.timeout_s, self.wait_for_ready = config.timeout_s, bool(config.wait_for_ready)
        self.has_policy = config.retry is not None or config.hedging is not None
        self.gzip = gzips(options.compression)
        self._blocks: dict[float | None, bytes] = {None: _opening(options, path)}

    def block(self, timeout_s: float | None, gzip: bool, more: bytes) -> bytes:
        """The header block of a request (the protocol document, "Requests")."""
        block = self._blocks.get(timeout_s)
        if block is None:
            block = self._blocks[None] + literal(b"grpc-timeout", metadata.encode_timeout(timeout_s or 0.0))
            if len(self._blocks) < BLOCKS_MAX:
                self._blocks[timeout_s] = block
        if gzip:
            block += _GZIP
        return block + more

    def encoded(self, request: Any, gzip: bool) -> Message:
        """The message as it is sent. Raises TooLarge."""
        payload = request if self.encode is None else self.encode(request)
        size = len(payload)
        if self.request_bytes_max is not None and size > self.request_bytes_max:
            raise TooLarge(size, self.request_bytes_max)
        if gzip and size >= COMPRESSED_MIN:
            small = messages.compress(payload)
            if len(small) < size:
                return small, 1
        return payload, 0


class TooLarge(Exception):
    """A request above the bound of its method."""

    def __init__(self, size: int, bytes_max: int) -> None:
        super().__init__(f"a request of {size} bytes is longer than {bytes_max}")


def fields(given: Iterable[Metadatum]) -> bytes:
    """Header fields of metadata that use no table. Raises MetadataFault naming key and rule."""
    return b"".join([literal(name, value) for name, value in metadata.to_fields(given)])


def gzips(compression: grpc.Compression) -> bool:
    """Whether messages are to be compressed. Raises ValueError for what is not supported."""
    if compression is grpc.Compression.Deflate:
        raise ValueError("compression: Gzip is supported, Deflate is not")
    return compression is grpc.Compression.Gzip


def _opening(options: Options, path: str) -> bytes:
    return b"".join(
        literal(name, value)
        for name, value in (
            (b":method", b"POST"),
            (b":scheme", b"https" if options.tls is not None else b"http"),
            (b":path", path.encode()),
            (b":authority", options.authority.encode()),
            (b"te", b"trailers"),
            (b"content-type", b"application/grpc"),
            (b"user-agent", options.user_agent.encode()),
            (b"grpc-accept-encoding", b"identity, gzip"),
        )
    ) + fields(options.metadata)


def _least(one: int | None, other: int | None) -> Any:
    known = [each for each in (one, other) if each is not None]
    return min(known) if known else None


_GZIP = literal(b"grpc-encoding", b"gzip")
