"""Callers of either client, and how a call of theirs ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from tests.wire.rig import SERVICE

CALL_S = 3.0  # A deadline for every call: none may hang.
RpcErrors = (grpc.RpcError,)
KINDS = {
    "Unary": "unary_unary",
    "ServerStream": "unary_stream",
    "ClientStream": "stream_unary",
    "Bidi": "stream_stream",
}


@dataclass
class Outcome:
    """All that a caller sees of a call."""

    code: int
    details: str
    messages: list[bytes]
    initial: list[tuple[str, Any]]
    trailing: list[tuple[str, Any]]


@asynccontextmanager
async def calling(engine: str, port: int, **options: Any) -> AsyncIterator[Any]:
    """A channel of the engine to a port."""
    if engine == "aio":
        fixed = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=fixed) as channel:
            yield channel
        return
    from services.chassis.wire.client import Channel, Options

    async with Channel(f"127.0.0.1:{port}", Options(**options)) as channel:
        yield channel


def begin(channel: Any, rpc: str, requests: Sequence[bytes], **options: Any) -> Any:
    """A call that has been begun."""
    made = getattr(channel, KINDS[rpc])(f"/{SERVICE}/{rpc}")
    options.setdefault("timeout", CALL_S)
    return made(requests[0] if rpc in ("Unary", "ServerStream") else _iterate(requests), **options)


async def _iterate(requests: Sequence[bytes]) -> AsyncIterator[bytes]:
    for request in requests:
        yield request


async def outcome(channel: Any, rpc: str = "Unary", *requests: bytes, **options: Any) -> Outcome:
    """Makes a call and waits for its end."""
    return await ended(begin(channel, rpc, requests or [b"hello"], **options), rpc)


async def ended(call: Any, rpc: str = "Unary") -> Outcome:
    messages: list[bytes] = []
    try:
        if rpc in ("ServerStream", "Bidi"):
            async for message in call:
                messages.append(message)
        else:
            messages.append(await call)
    except RpcErrors:
        pass
    except asyncio.CancelledError:
        if not call.cancelled():
            raise
    code = await call.code()
    initial = list(await call.initial_metadata() or ())
    trailing = list(await call.trailing_metadata() or ())
    return Outcome(code.value[0], await call.details() or "", messages, initial, trailing)
