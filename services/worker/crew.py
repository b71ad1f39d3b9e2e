"""Local workers: processes of this one, started, watched, replaced and drained. None outlives it.

A worker is on a leash: when this process dies, it is told to end. One that dies young is started again later
and later; one that gives no sign of life is killed. A worker of other settings than its pool's is replaced:
the new one comes first, then the old one is drained.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

from services.chassis.bus import Bus
from services.chassis.jobs import subjects
from services.worker.beating import new_id
from services.worker.directory import Directory
from services.worker.domain import Pool, State
from services.worker.pack import settings_from_json
from services.worker.settings import WorkerSettings
from weft.jobs.v1.live_pb2 import Control, Resize
from weft.worker.v1.worker_pb2 import PoolSettings

BACKOFF_S, BACKOFF_S_MAX = 0.5, 30.0  # Between a death and the next start.
STEADY_S = 30.0  # Who lived so long did not die young.
START_S_MAX = 60.0  # Until its first sign of life: modules may take long to load.
KILL_AFTER_S = 6.0  # Beyond the time that jobs are given at a stop: for telling how they ended.
LOCAL_MAX = 64  # Workers on one machine, whatever pools ask for: each is a Python of 60 MB or more.

log = logging.getLogger("weft.worker")


class _Hand:
    """One local worker."""

    def __init__(self, pool: str, settings: PoolSettings, kind: str, own: WorkerSettings) -> None:
        self.pool, self.settings, self.kind = pool, settings, kind
        self.slots = settings.slots
        self.worker = f"{pool}-{new_id()}"[:100]
        self.began = time.monotonic()
        self.leaving_at: float | None = None
        self.process: asyncio.subprocess.Process | None = None
        self._own = own
        self.task = asyncio.create_task(self._live(), name=self.worker)

    async def _live(self) -> int:
        words = command(self.pool, self.worker, self.settings)
        environ = os.environ | {
            "PYTHONPATH": os.pathsep.join(sys.path),
            "WEFT_METRICS_ADDRESS": "127.0.0.1:0",
        }
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, *words, stdin=asyncio.subprocess.DEVNULL, env=environ
        )
        if self.leaving_at is not None:
            self._signal(signal.SIGTERM)
        return await self.process.wait()

    def leave(self) -> None:
        """Drains it; it is killed when that takes too long."""
        if self.leaving_at is None:
            self.leaving_at = time.monotonic()
            self._signal(signal.SIGTERM)

    def check(self, quiet_s: float | None) -> None:
        """Kills it if it hangs, or does not leave."""
        now = time.monotonic()
        late = self.leaving_at is not None and now - self.leaving_at > self._own.drain_s + KILL_AFTER_S
        silent = quiet_s is None and now - self.began > START_S_MAX
        hung = quiet_s is not None and quiet_s > self._own.hung_s
        if late or silent or hung:
            log.error("a worker hangs and is killed", extra={"facts": {"worker": self.worker}})
            self.kill()

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if self.process and self.process.returncode is None:
            with suppress(ProcessLookupError):
                self.process.send_signal(number)


class Crews:
    """The local workers of all pools."""

    def __init__(self, bus: Bus, directory: Directory, own: WorkerSettings) -> None:
        self._bus, self._directory, self._own = bus, directory, own
        self._hands: list[_Hand] = []
        self._not_before: dict[str, float] = {}  # By pool: after deaths in youth.
        self._deaths: dict[str, int] = {}
        self._telling: set[asyncio.Task[None]] = set()

    def keep(self, pools: Sequence[Pool]) -> None:
        """Starts who is missing, lets go who is too many, replaces who is of another kind."""
        self._count_dead()
        known = {pool.pool: pool for pool in pools}
        for hand in self._hands:
            hand.check(self._directory.quiet_s(hand.worker))
            if hand.pool not in known:
                hand.leave()
        for pool in pools:
            self._fit(pool)

    def _fit(self, pool: Pool) -> None:
        settings = settings_from_json(pool.settings)
        kind = kind_of(settings)
        staying = [hand for hand in self._hands if hand.pool == pool.pool and hand.leaving_at is None]
        fresh = [hand for hand in staying if hand.kind == kind]
        stale = [hand for hand in staying if hand.kind != kind]
        wanted = 0 if pool.state == State.DRAINING else pool.workers_wanted
        for _ in range(wanted - len(fresh)):
            if not self._start(pool.pool, settings, kind):
                break
        ready = [hand for hand in fresh if self._directory.quiet_s(hand.worker) is not None]
        for hand in stale[: max(0, len(staying) - wanted)] if ready or not wanted else []:
            hand.leave()
        for hand in self._least_busy(fresh)[: max(0, len(fresh) - wanted)]:
            hand.leave()
        for hand in fresh:
            self._resize(hand, settings.slots)

    def _least_busy(self, hands: Sequence[_Hand]) -> list[_Hand]:
        running = {worker.worker: worker.running for worker in self._directory.workers()}
        return sorted(hands, key=lambda hand: running.get(hand.worker, 0))

    def _start(self, pool: str, settings: PoolSettings, kind: str) -> bool:
        if time.monotonic() < self._not_before.get(pool, 0.0):
            return False
        if len(self._hands) >= LOCAL_MAX:
            log.warning("this machine has %d workers, and takes no more", LOCAL_MAX)
            return False
        self._hands.append(_Hand(pool, settings, kind, self._own))
        return True

    def _resize(self, hand: _Hand, slots: int) -> None:
        if hand.slots != slots and self._directory.quiet_s(hand.worker) is not None:
            hand.slots = slots
            order = Control(resize=Resize(slots=slots)).SerializeToString()
            task = asyncio.create_task(self._bus.nc.publish(subjects.control(hand.worker), order))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    def _count_dead(self) -> None:
        """Takes those out that have ended; who died young is not started again at once."""
        for hand in [hand for hand in self._hands if hand.task.done()]:
            self._hands.remove(hand)
            if hand.leaving_at is not None:
                continue
            young = time.monotonic() - hand.began < STEADY_S
            deaths = self._deaths[hand.pool] = self._deaths.get(hand.pool, 0) + 1 if young else 1
            delay_s = min(BACKOFF_S * 2 ** (deaths - 1), BACKOFF_S_MAX)
            self._not_before[hand.pool] = time.monotonic() + delay_s
            facts = {"worker": hand.worker, "how": _how(hand.task), "again_s": delay_s}
            log.error("a worker died", extra={"facts": facts})

    async def close(self) -> None:
        """Drains all, and kills who does not leave in time."""
        for hand in self._hands:
            hand.leave()
        tasks = [hand.task for hand in self._hands]
        if tasks:
            await asyncio.wait(tasks, timeout=self._own.drain_s + KILL_AFTER_S)
        for hand in self._hands:
            hand.kill()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._hands.clear()


def _how(task: asyncio.Task[int]) -> str:
    if task.cancelled() or (error := task.exception()):
        return "it could not be started" if task.cancelled() else f"it could not be started: {error}"
    return f"exit status {task.result()}"


def kind_of(settings: PoolSettings) -> str:
    """What a worker cannot change in its life."""
    limits = sorted(settings.type_limits.items())
    parts = [list(settings.queues), list(settings.modules), settings.threads, settings.processes, limits]
    return json.dumps(parts)


def command(pool: str, worker: str, settings: PoolSettings) -> list[str]:
    """The words after `python`."""
    words = ["-m", "services.worker", *settings.modules, "--pool", pool, "--name", worker]
    words += ["--leash", str(os.getpid())]
    for queue in settings.queues:
        words += ["--queue", queue]
    for name, limit in sorted(settings.type_limits.items()):
        words += ["--limit", f"{name}={limit}"]
    for name in ("slots", "threads", "processes"):
        words += [f"--{name}", str(getattr(settings, name))]
    return words
