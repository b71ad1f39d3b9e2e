"""Calls by a timetable, whatever became of those before: what users do, who do not wait for each other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

import grpc.aio

from scripts.chaos import timetable
from scripts.chaos.measures import OK, Call
from scripts.chaos.timetable import Burst

IN_FLIGHT_MAX = 2_000  # Calls that wait for an answer at once; one more would be this machine's trouble.
NOT_SENT = "NOT_SENT"  # What became of that one more.
CALLERS = 32  # Who ask one after the other, as fast as they are answered, to find the capacity.
CAPACITY_S = 5.0

Ask = Callable[[str], Awaitable[None]]


class Load:
    """All calls of one run."""

    def __init__(self, ask: Ask, mix: Mapping[str, float], rate: float, bursts: Sequence[Burst]) -> None:
        self._ask, self._mix, self._rate, self._bursts = ask, mix, rate, bursts
        self._open: set[asyncio.Task[None]] = set()
        self.calls: list[Call] = []

    async def run(self, length: float, began: float) -> None:
        """From the moment `began` on, until the last call has its answer or its deadline."""
        kinds = timetable.kinds(self._mix)
        for due in timetable.due(length, self._rate, self._bursts):
            if (wait_s := began + due - time.monotonic()) > 0:
                await asyncio.sleep(wait_s)
            self._send(next(kinds), due, began)
        if self._open:
            await asyncio.wait(self._open)

    def _send(self, kind: str, due: float, began: float) -> None:
        if len(self._open) >= IN_FLIGHT_MAX:
            self.calls.append(Call(kind, due, 0.0, NOT_SENT))
            return
        task = asyncio.create_task(self._call(kind, due, began))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _call(self, kind: str, due: float, began: float) -> None:
        code = await outcome(self._ask(kind))
        self.calls.append(Call(kind, due, (time.monotonic() - began - due) * 1_000, code))


async def outcome(call: Awaitable[None]) -> str:
    """OK, or the code of the failure."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return str(error.code().name)
    return OK


async def capacity(ask: Ask, mix: Mapping[str, float]) -> float:
    """Answers a second to callers who always have a call open."""
    kinds, answered = timetable.kinds(mix), 0
    ends = time.monotonic() + CAPACITY_S

    async def caller() -> None:
        nonlocal answered
        while time.monotonic() < ends:
            code = await outcome(ask(next(kinds)))
            answered += code == OK and time.monotonic() < ends

    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return answered / CAPACITY_S
