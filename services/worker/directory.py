"""Who works now, by the signs of life that workers give."""

import asyncio
import logging
import time
from collections.abc import Sequence

from google.protobuf.message import DecodeError
from nats.aio.msg import Msg

from services.chassis.bus import Bus
from services.worker.beating import SUBJECT
from weft.worker.v1.worker_pb2 import Worker

ALIVE_S = 10.0  # Without a sign for so long a worker is not counted any more: five beats.
WORKERS_MAX = 10_000  # More would not fit an answer; who comes then is not seen.
FORGET_S = 300.0  # How long it is known that it was there: a worker that hangs is killed before.
TIDY_EVERY_S = 1.0

log = logging.getLogger("weft.worker")


class Directory:
    """Of one process; what it has not heard yet comes within a beat."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._known: dict[str, tuple[float, Worker]] = {}

    async def run(self) -> None:
        """Listens for ever."""
        subscription = await self._bus.nc.subscribe(f"{SUBJECT}.*", cb=self._heard)
        try:
            while True:
                await asyncio.sleep(TIDY_EVERY_S)
                self._tidy()
        finally:
            if not self._bus.nc.is_closed:
                await subscription.unsubscribe()

    async def _heard(self, message: Msg) -> None:
        try:
            worker = Worker.FromString(message.data)
        except DecodeError:
            log.warning("a sign of life is not understood")
            return
        if worker.worker in self._known or len(self._known) < WORKERS_MAX:
            self._known[worker.worker] = (time.monotonic(), worker)

    def _tidy(self) -> None:
        now = time.monotonic()
        self._known = {each: known for each, known in self._known.items() if now - known[0] < FORGET_S}

    def workers(self, pool: str = "") -> Sequence[Worker]:
        """Those of a pool, or all; by pool, then by name."""
        alive = [worker for heard_at, worker in self._known.values() if _alive(heard_at)]
        ours = [worker for worker in alive if pool in ("", worker.pool)]
        return sorted(ours, key=lambda each: (each.pool, each.worker))

    def quiet_s(self, worker: str) -> float | None:
        """Seconds since it gave a sign; None: it never did, or that is very long ago."""
        known = self._known.get(worker)
        return None if known is None else time.monotonic() - known[0]


def _alive(heard_at: float) -> bool:
    return time.monotonic() - heard_at < ALIVE_S
