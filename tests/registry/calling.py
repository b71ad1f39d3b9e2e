"""Calls through an Envoy that is told of the mesh by the registry."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import grpc

from services.chassis.testing import until
from tests.registry.answering import METHOD, instance

LAST = 12  # Calls that are looked at: round robin deals them to all who get any.


@dataclass
class Caller:
    """Calls through an Envoy's listener."""

    channel: grpc.aio.Channel

    async def who(self, header: tuple[str, str] | None = None) -> str:
        """Who answered; the status's name where nobody did."""
        call = self.channel.unary_unary(METHOD)
        try:
            answer = await call(b"", timeout=10, metadata=[header] if header else None)
        except grpc.aio.AioRpcError as error:
            return str(error.code().name)
        return str(answer.decode())

    async def answering(self, header: tuple[str, str] | None = None) -> set[str]:
        """All who answer now."""
        return {await self.who(header) for _ in range(LAST)}

    async def until_answering(self, names: set[str]) -> None:
        async def so() -> bool:
            return await self.answering() == names

        await until(so)


@asynccontextmanager
async def calling(address: str, authority: str = "") -> AsyncIterator[Caller]:
    options = [("grpc.max_reconnect_backoff_ms", 100), ("grpc.initial_reconnect_backoff_ms", 50)]
    if authority:
        options.append(("grpc.default_authority", authority))  # type: ignore[arg-type]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        yield Caller(channel)


@asynccontextmanager
async def instances(*names: str) -> AsyncIterator[list[int]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(instance(name)) for name in names]
