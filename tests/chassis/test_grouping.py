"""Work of many callers is done together, and each gets what is its own."""

import asyncio
from collections.abc import Sequence

import pytest

from services.chassis.db import Conflict, DatabaseAway
from services.chassis.errors import NotFound, Refusal
from services.chassis.grouping import Grouping


class Odd(NotFound):
    """{number} is odd."""


class Halver:
    """Halves even numbers; keeps the batches it was given."""

    def __init__(self, together_max: int = 100) -> None:
        self.batches: list[list[int]] = []
        self.fails: Exception | None = None
        self.grouping = Grouping(self.run, together_max)

    async def run(self, numbers: Sequence[int]) -> Sequence[int | Refusal]:
        self.batches.append(list(numbers))
        await asyncio.sleep(0)
        if self.fails and (isinstance(self.fails, DatabaseAway) or 13 in numbers):
            raise self.fails
        return [Odd(number=number) if number % 2 else number // 2 for number in numbers]

    async def all(self, numbers: Sequence[int]) -> list[int | BaseException]:
        return await asyncio.gather(*map(self.grouping.do, numbers), return_exceptions=True)


async def test_what_comes_together_is_done_together() -> None:
    halver = Halver()
    assert await halver.all([2, 4, 6]) == [1, 2, 3]
    assert halver.batches == [[2, 4, 6]]


async def test_a_batch_has_a_bound() -> None:
    halver = Halver(together_max=2)
    assert await halver.all([2, 4, 6]) == [1, 2, 3]
    assert halver.batches == [[2, 4], [6]]


async def test_a_bound_may_be_of_what_pieces_weigh() -> None:
    halver = Halver()
    halver.grouping = Grouping(halver.run, 10, weigh=lambda number: number)
    assert await halver.all([4, 6, 2, 20, 2, 2]) == [2, 3, 1, 10, 1, 1]
    assert halver.batches == [[4, 6], [2], [20], [2, 2]]


async def test_what_comes_while_others_are_done_is_done_next() -> None:
    halver = Halver()
    first = asyncio.create_task(halver.grouping.do(2))
    while not halver.batches:  # noqa: ASYNC110 - a list
        await asyncio.sleep(0)
    assert await halver.all([4, 6]) == [2, 3]
    assert await first == 1
    assert halver.batches == [[2], [4, 6]]


async def test_a_refusal_is_of_its_own_caller() -> None:
    one, two, three = await Halver().all([2, 3, 4])
    assert (one, three) == (1, 2)
    assert isinstance(two, Odd)


async def test_a_refusal_of_the_whole_is_everyones_own() -> None:
    halver = Halver()
    halver.fails = DatabaseAway()
    one, two = await halver.all([2, 4])
    assert isinstance(one, DatabaseAway)
    assert isinstance(two, DatabaseAway)
    assert one is not two
    assert len(halver.batches) == 1


@pytest.mark.parametrize("fault", [ZeroDivisionError(), Conflict()], ids=["a bug", "a lost race"])
async def test_work_that_spoils_a_batch_fails_alone(fault: Exception) -> None:
    halver = Halver()
    halver.fails = fault
    one, bad, three = await halver.all([2, 13, 4])
    assert (one, three) == (1, 2)
    assert bad is halver.fails


async def test_a_caller_that_goes_away_stops_nobody() -> None:
    halver = Halver()
    gone = asyncio.create_task(halver.grouping.do(2))
    await asyncio.sleep(0)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert await halver.all([4]) == [2]
