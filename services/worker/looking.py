"""What waits in queues, asked of JetStream: neither the queue's service nor its database is troubled."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from datetime import datetime

from nats.js.errors import NotFoundError

from services.chassis.bus import REQUEST_S_MAX, Bus
from services.chassis.clock import Clock
from services.chassis.jobs import subjects
from services.chassis.jobs.queues import Known
from services.worker.scaling import Seen

TOGETHER_MAX = 32  # Questions under way at once: a keyed queue has a consumer for each lane.


class Looker:
    """Looks at queues."""

    def __init__(self, bus: Bus, clock: Clock) -> None:
        self._bus, self._clock = bus, clock
        self._few = asyncio.Semaphore(TOGETHER_MAX)

    async def look(self, queues: Sequence[Known]) -> Mapping[str, Seen]:
        """By queue. Raises a NATS error or TimeoutError."""
        return dict(
            zip([each.name for each in queues], await asyncio.gather(*map(self._queue, queues)), strict=True)
        )

    async def _queue(self, queue: Known) -> Seen:
        places = subjects.places(queue.lanes)
        return together(await asyncio.gather(*(self._place(queue.name, place) for place in places)))

    async def _place(self, queue: str, place: str) -> Seen:
        async with self._few:
            try:
                info = await self._bus.js.consumer_info(subjects.STREAM, subjects.consumer(queue, place))
            except NotFoundError:
                return Seen(depth=0)
            depth = info.num_pending or 0
            if not depth:
                return Seen(depth=0)
            after = (info.delivered.stream_seq if info.delivered else 0) or 0
            return Seen(depth=depth, oldest_age_s=await self._age_s(subjects.due(queue, place), after))

    async def _age_s(self, subject: str, after: int) -> float:
        """How long the next message of the subject has been there."""
        question = json.dumps({"seq": after + 1, "next_by_subj": subject}).encode()
        to = f"$JS.API.DIRECT.GET.{subjects.STREAM}"
        message = await self._bus.nc.request(to, question, timeout=REQUEST_S_MAX)
        at = (message.headers or {}).get("Nats-Time-Stamp", "")
        if not at:  # It was taken a moment ago.
            return 0.0
        stored = datetime.fromisoformat(f"{at.rstrip('Z')[:26]}+00:00")
        return max(0.0, (self._clock.now() - stored).total_seconds())


def together(parts: Sequence[Seen]) -> Seen:
    """Of all: the sum, and the oldest."""
    depth = sum(part.depth for part in parts)
    return Seen(depth=depth, oldest_age_s=max((part.oldest_age_s for part in parts), default=0.0))
