"""Pieces of work of many callers, joined into one transaction.

An idle process does what comes at once; a busy one gathers what comes meanwhile, and does it together. So a
row that everyone wants is locked once for many, and one commit serves them all. What `run` is given must be
sound in any company: it answers each piece with its result or its refusal, in their order.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import Generic, TypeVar

from services.chassis.db import Conflict
from services.chassis.errors import Refusal

W = TypeVar("W")
R = TypeVar("R")

TOGETHER_MAX = 200  # Pieces of one transaction: it ends within tens of milliseconds, and its locks with it.


class Grouping(Generic[W, R]):
    """One kind of work. What a caller's context holds is not seen by `run`: pass it in the work."""

    def __init__(
        self,
        run: Callable[[Sequence[W]], Awaitable[Sequence[R | Refusal]]],
        together_max: int = TOGETHER_MAX,
        weigh: Callable[[W], int] = lambda _: 1,
    ) -> None:
        """`together_max` is of what `weigh` counts; a piece that weighs more by itself comes alone."""
        self._run, self._together_max, self._weigh = run, together_max, weigh
        self._waiting: list[tuple[W, asyncio.Future[R]]] = []
        self._pumping: asyncio.Task[None] | None = None

    async def do(self, work: W) -> R:
        """Done when this returns, whatever became of others. Raises the work's own refusal."""
        done: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((work, done))
        if self._pumping is None:
            self._pumping = asyncio.create_task(self._pump(), context=Context())
        return await done

    async def _pump(self) -> None:
        try:
            while self._waiting:
                await self._answer([each for each in self._next() if not each[1].done()])
        finally:
            self._pumping = None

    def _next(self) -> list[tuple[W, asyncio.Future[R]]]:
        """At least one."""
        taken, weight = 0, 0
        for work, _ in self._waiting:
            weight += self._weigh(work)
            if taken and weight > self._together_max:
                break
            taken += 1
        batch, self._waiting = self._waiting[:taken], self._waiting[taken:]
        return batch

    async def _answer(self, batch: Sequence[tuple[W, asyncio.Future[R]]]) -> None:
        """Gives each its result. What failed for all because of one of them is done one by one."""
        try:
            answers: Sequence[R | Refusal] = await self._run([work for work, _ in batch]) if batch else ()
        except Exception as error:
            if isinstance(error, Refusal) and not isinstance(error, Conflict):
                answers = [type(error)(**error.facts) for _ in batch]
            elif len(batch) == 1:
                _settle(batch[0][1], error)
                return
            else:
                for each in batch:
                    await self._answer([each])
                return
        for (_, done), answer in zip(batch, answers, strict=True):
            _settle(done, answer)


def _settle(done: asyncio.Future[R], answer: R | Exception) -> None:
    """Unless the caller has gone."""
    if done.done():
        return
    if isinstance(answer, Exception):
        done.set_exception(answer)
    else:
        done.set_result(answer)
