"""NATS: JetStream's account of itself, and now and then whether anybody falls behind."""

from __future__ import annotations

from collections.abc import Sequence

from services.chassis.bus import Bus
from services.health.domain.component import Verdict
from services.health.looking import Finding

LAG_EVERY = 12  # Looks: asking each stream for its consumers costs a call a stream.
PENDING_MAX = 10_000  # Events that one consumer has not been given yet: minutes of work.


class Nats:
    component = "nats"

    def __init__(self, bus: Bus) -> None:
        self._bus, self._looks, self._behind = bus, 0, ""

    async def look(self) -> Sequence[Finding]:
        await self._bus.request("INFO")
        if self._looks % LAG_EVERY == 0:
            self._behind = await self._most_behind()
        self._looks += 1
        if self._behind:
            return [Finding(self.component, Verdict.SLOW, self._behind)]
        return [Finding(self.component)]

    async def _most_behind(self) -> str:
        """Who, if anybody is too far."""
        most, who = PENDING_MAX, ""
        for stream in await self._bus.event_streams():
            for consumer in await self._bus.js.consumers_info(stream):
                if (consumer.num_pending or 0) > most:
                    most = consumer.num_pending or 0
                    who = f"{most} events of {stream} wait for one consumer"
        return who
