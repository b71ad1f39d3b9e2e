"""Reads over HTTP what processes and Envoy have counted: bounded in time, in bytes, in how many at once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.chassis.clock import Clock
from services.registry.domain import graph
from services.registry.domain.graph import Counts, Span

if TYPE_CHECKING:
    import httpx

READ_S_MAX = 2.0  # A process answers in milliseconds, a busy one within this; none that hangs is awaited.
AT_ONCE_MAX = 128  # Connections of one graph: all it reads in two rounds.
TEXT_BYTES_MAX = 2 << 20  # All pairs that a process can tell apart take less.
FILTER = r"^cluster\.[^.]+\.upstream_rq_(completed|5xx|time)$"

log = logging.getLogger("weft.registry")


@dataclass(frozen=True, slots=True)
class Source:
    """One process, or Envoy."""

    url: str
    parameters: tuple[tuple[str, str], ...]
    counts: Callable[[str], Counts]


def process(address: str, port: str) -> Source:
    """Where a process of the chassis answers /metrics."""
    host = f"[{address}]" if ":" in address else address
    return Source(f"http://{host}:{port}/metrics", (("name[]", graph.BY_CALLER),), graph.of_process)


def envoy(place: str) -> Source:
    """Where the edge's stats listener answers (host:port)."""
    return Source(f"http://{place}/metrics", (("usedonly", ""), ("filter", FILTER)), graph.of_envoy)


async def spans(sources: Sequence[Source], window_s: float, clock: Clock) -> dict[Source, Span]:
    """Of each source that answered twice, `window_s` apart or a little more."""
    import httpx

    room = asyncio.Semaphore(AT_ONCE_MAX)
    # Envoy and the processes are inside: a proxy of the environment is not asked.
    async with httpx.AsyncClient(timeout=READ_S_MAX, trust_env=False) as client:

        async def one(source: Source) -> tuple[float, Counts] | None:
            async with room:
                return await _read(client, source, clock)

        before = await asyncio.gather(*map(one, sources))
        answering = {source: first for source, first in zip(sources, before, strict=True) if first}
        await clock.sleep(window_s)
        after = await asyncio.gather(*map(one, answering))
    return {
        source: Span(first[1], second[1], second[0] - first[0])
        for (source, first), second in zip(answering.items(), after, strict=True)
        if second and second[0] > first[0]
    }


async def _read(client: httpx.AsyncClient, source: Source, clock: Clock) -> tuple[float, Counts] | None:
    """When, and what. None for a process that does not answer as it should."""
    import httpx

    try:
        async with (
            asyncio.timeout(READ_S_MAX),
            client.stream("GET", source.url, params=list(source.parameters)) as answer,
        ):
            text = await _text(answer.raise_for_status())
        return clock.monotonic(), source.counts(text)
    except (httpx.HTTPError, OSError, TimeoutError, ValueError, KeyError) as error:
        log.info("not read: %s: %s", source.url, type(error).__name__)
        return None


async def _text(answer: httpx.Response) -> str:
    """Raises ValueError for more than anybody has to say."""
    body = bytearray()
    async for chunk in answer.aiter_bytes():
        body += chunk
        if len(body) > TEXT_BYTES_MAX:
            raise ValueError("it says too much")
    return body.decode()
