"""Envoys as counters of calls: what rollouts go by, read from their admin addresses."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol

from services.registry.domain import envoy_stats
from services.registry.domain.figures import Reading

READ_S_MAX = 2.0  # An Envoy answers in milliseconds; one that does not is passed over this time.
BYTES_MAX = 1 << 20  # Of an answer: a histogram and a few counters of two clusters are some kilobytes.

log = logging.getLogger("weft.registry")


class Figures(Protocol):
    """Whoever counts calls by version."""

    async def read(self, service: str, versions: Sequence[str], over_ms: int) -> list[Reading]:
        """What was counted since each source began; of sources that do not answer, nothing."""


class Envoys:
    """Of admin addresses, host:port."""

    def __init__(self, places: Sequence[str]) -> None:
        self._places = places

    async def read(self, service: str, versions: Sequence[str], over_ms: int) -> list[Reading]:
        found = await asyncio.gather(*(self._ask(place, service, versions) for place in self._places))
        return [
            Reading(
                place,
                {each: envoy_stats.counts(text, service, each, over_ms) for each in versions},
            )
            for place, text in zip(self._places, found, strict=True)
            if text is not None
        ]

    async def _ask(self, place: str, service: str, versions: Sequence[str]) -> str | None:
        import httpx  # Only where a rollout is on its way.

        asked = {"filter": envoy_stats.wanted(service, versions), "histogram_buckets": "cumulative"}
        body = bytearray()
        try:
            async with (
                asyncio.timeout(READ_S_MAX),
                httpx.AsyncClient(trust_env=False) as client,
                client.stream("GET", f"http://{place}/stats", params=asked) as answer,
            ):
                answer.raise_for_status()
                async for part in answer.aiter_bytes():
                    body += part
                    if len(body) > BYTES_MAX:
                        break
        except (httpx.HTTPError, TimeoutError) as error:
            log.warning("the Envoy at %s tells nothing of %s: %r", place, service, error)
            return None
        return body[:BYTES_MAX].decode(errors="replace")
