"""Work side by side for different keys, one after the other for the same."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Lanes(Generic[T]):
    """Holds at most `room` items; one whose work raises fails all that follow."""

    def __init__(self, work: Callable[[T], Awaitable[None]], room: int) -> None:
        self._work, self._room = work, room
        self._waiting: dict[str, deque[T]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None
        self._moved = asyncio.Event()

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def __iter__(self) -> Iterator[T]:
        """All items that are not done."""
        return (item for lane in list(self._waiting.values()) for item in list(lane))

    async def put(self, key: str, item: T) -> None:
        """Waits for room. Raises what an earlier work raised."""
        await self._until(self._room - 1)
        if key in self._waiting:
            self._waiting[key].append(item)
            return
        self._waiting[key] = deque([item])
        task = asyncio.create_task(self._run(key))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def idle(self) -> None:
        """Waits until all is done. Raises what a work raised."""
        await self._until(0)

    async def _until(self, held_max: int) -> None:
        while True:
            if self._failure:
                raise self._failure
            if len(self) <= held_max:
                return
            self._moved.clear()
            await self._moved.wait()

    async def _run(self, key: str) -> None:
        lane = self._waiting[key]
        try:
            while lane:
                await self._work(lane[0])
                lane.popleft()
                self._moved.set()
        except Exception as error:
            self._failure = error
        finally:
            del self._waiting[key]
            self._moved.set()

    async def cancel(self) -> None:
        """Stops where it is."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
