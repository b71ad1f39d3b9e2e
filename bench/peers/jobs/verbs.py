"""What every peer's module does: enqueue one by one, in bulk, at a pace; be a worker.

`python -m bench.peers.jobs.<name> enqueue|bulk|pace COUNT`, `… work`. A module gives its verbs to `main`.
Standard library only, but for what the peer itself needs.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from bench.peers.jobs.marks import Marks

URL = os.environ.get("WEFT_BENCH_BROKER_URL", "")
CALLERS = 200
PER_S = 100.0  # The pace at which latency is measured.
SLOTS = 100  # Jobs that an asyncio worker runs at once.

Enqueue = Callable[[int, float], Awaitable[Any] | Any]
_marks: Marks | None = None


def noop(index: int, sent: float) -> None:
    """The job: it says that it was started."""
    global _marks
    if _marks is None:
        _marks = Marks.here()
    _marks.hit(index, sent)


async def one_by_one(enqueue: Enqueue, count: int) -> None:
    """200 callers, each waiting for its own answer; a blocking client has one."""
    indexes = iter(range(count))

    async def caller() -> None:
        for index in indexes:
            done = enqueue(index, time.monotonic())
            if inspect.isawaitable(done):
                await done

    await asyncio.gather(*(caller() for _ in range(CALLERS)))


async def paced(enqueue: Enqueue, count: int) -> None:
    """One job each hundredth of a second."""
    began = time.monotonic()
    for index in range(count):
        await asyncio.sleep(max(0.0, began + index / PER_S - time.monotonic()))
        done = enqueue(index, time.monotonic())
        if inspect.isawaitable(done):
            await done


async def fed(verb: str, count: int, enqueue: Enqueue, bulk: Callable[[int], Any] | None) -> None:
    """Does it and prints how long it took; null when the peer has no such verb."""
    began = time.monotonic()
    if verb == "bulk":
        done = bulk(count) if bulk else None
        if inspect.isawaitable(done):
            await done
    else:
        await (paced if verb == "pace" else one_by_one)(enqueue, count)
    seconds = None if verb == "bulk" and bulk is None else time.monotonic() - began
    sys.stdout.write(json.dumps(seconds) + "\n")


def jobs(count: int) -> list[tuple[int, float]]:
    """Arguments of `count` jobs."""
    now = time.monotonic()
    return [(index, now) for index in range(count)]


def words() -> tuple[str, int]:
    """The verb and the count of the command line."""
    return sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0
