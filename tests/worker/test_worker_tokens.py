"""A queue's limits over all workers: no more run, or begin, than it lets; and nothing is kept from others."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from google.rpc import code_pb2, status_pb2

from services.chassis.errors import CallFailed
from services.chassis.jobs.queues import Known
from services.chassis.testing import until
from services.worker import tokens
from services.worker.delivery import Delivery
from services.worker.ending import SUCCEEDED
from services.worker.runner import Room
from services.worker.tokens import Gates
from tests.worker.handlers import Order
from tests.worker.running import Laid, delivery, running
from tests.worker.wired import known
from weft.jobs.v1.job_pb2 import EndReason
from weft.queue.v1.record_pb2 import LeaseTokensRequest, LeaseTokensResponse, Slots


class Lender:
    """The queue: lends what its limits leave."""

    def __init__(self, lease_s: int = 60, **limits: int) -> None:
        self.limits, self.lease_s = limits, lease_s
        self.held: dict[str, dict[str, int]] = {}  # By worker, by limit.
        self.starts = 0
        self.asked = 0
        self.away = False

    async def LeaseTokens(self, request: LeaseTokensRequest) -> LeaseTokensResponse:
        self.asked += 1
        if self.away:
            raise CallFailed("", status_pb2.Status(code=code_pb2.UNAVAILABLE))
        others = [held for worker, held in self.held.items() if worker != request.worker]
        mine = self.held.setdefault(request.worker, {})
        for each in request.slots:
            left = self.limits.get(each.type or "queue", 0) - sum(held.get(each.type, 0) for held in others)
            mine[each.type] = min(each.count, max(0, left))
        given = min(self.starts, request.starts)
        self.starts -= given
        answer = LeaseTokensResponse(
            starts=given, slots=[Slots(type=name, count=count) for name, count in mine.items()]
        )
        answer.lease.FromSeconds(self.lease_s)
        if given < request.starts:
            answer.wait.FromMilliseconds(20)
        return answer


@asynccontextmanager
async def limited(
    lender: Lender, settings: Mapping[str, Any], worker: str = "w1", room: Room | None = None
) -> AsyncIterator[Laid]:
    gates = Gates(lender, worker)
    async with running(room or Room(16, 2, 1)) as laid:
        laid.runner.limit(gates)
        gates.follow(known(settings=settings), ["default"])
        yield laid
        await gates.close()


async def most(laid: Laid, jobs: list[Delivery]) -> int:
    """How many ran at once, at most, until all had ended."""
    seen = 0
    while not all(job.envelope.job_id in laid.heard.endings for job in jobs):
        seen = max(seen, len(laid.runner.running))
        await asyncio.sleep(0.002)
    return seen


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "AGAIN_S", 0.01)
    monkeypatch.setattr(tokens, "AWAY_S", 0.01)


async def test_no_more_run_at_once_than_the_queue_lets() -> None:
    lender = Lender(queue=3)
    async with limited(lender, {"concurrency": {"queue": 3}}) as laid:
        jobs = [delivery("one.of.many") for _ in range(20)]
        laid.runner.take(jobs)
        assert await most(laid, jobs) == 3
    assert lender.held["w1"] == {"": 0}  # Given back.


async def test_a_types_limit_leaves_others_alone() -> None:
    lender = Lender(**{"one.of.many": 2})
    async with limited(lender, {"concurrency": {"by_type": {"one.of.many": 2}}}) as laid:
        jobs, other = [delivery("one.of.many") for _ in range(10)], delivery("nothing")
        laid.runner.take([*jobs, other])
        await laid.heard.end_of(other)
        assert await most(laid, jobs) <= 2


async def test_two_workers_share_a_limit() -> None:
    lender = Lender(queue=4)
    settings = {"concurrency": {"queue": 4}}
    async with limited(lender, settings, "w1") as one, limited(lender, settings, "w2") as two:
        first, second = ([delivery("one.of.many") for _ in range(10)] for _ in range(2))
        one.runner.take(first)
        two.runner.take(second)
        together = 0
        while len(one.heard.endings) + len(two.heard.endings) < 20:
            together = max(together, len(one.runner.running) + len(two.runner.running))
            await asyncio.sleep(0.002)
        assert 1 < together <= 4


async def test_what_nobody_needs_here_is_soon_anothers() -> None:
    """Long before it would be renewed."""
    lender, settings = Lender(queue=1, lease_s=300), {"concurrency": {"queue": 1}}
    async with limited(lender, settings, "w1") as one, limited(lender, settings, "w2") as two:
        await one.run(delivery("nothing"))
        await two.run(delivery("nothing"))
        await until(lambda: _is_given_back(lender))


async def _is_given_back(lender: Lender) -> bool:
    return lender.held == {"w1": {"": 0}, "w2": {"": 0}}


async def test_no_more_begin_than_the_rate_lets() -> None:
    lender = Lender()
    lender.starts = 5
    async with limited(lender, {"rate": {"starts": 5}}) as laid:
        jobs = [delivery("nothing") for _ in range(12)]
        laid.runner.take(jobs)
        await asyncio.sleep(0.1)
        assert len(laid.heard.endings) == 5
        lender.starts = 7
        for job in jobs:
            assert (await laid.heard.end_of(job))[1].outcome == SUCCEEDED
        assert lender.starts == 0


async def test_while_the_queue_is_away_nothing_begins_beyond_its_lease() -> None:
    lender = Lender(queue=2, lease_s=1)
    async with limited(lender, {"concurrency": {"queue": 2}}, room=Room(4, 1, 1)) as laid:
        await laid.run(delivery("nothing"))
        lender.away = True
        await asyncio.sleep(1.1)
        late = delivery("nothing")
        laid.runner.take([late])
        await asyncio.sleep(0.1)
        assert late.envelope.job_id not in laid.heard.endings
        lender.away = False
        assert (await laid.heard.end_of(late))[1].outcome == SUCCEEDED


async def test_who_waits_for_a_limit_can_be_called_off() -> None:
    lender = Lender(queue=1)
    async with limited(lender, {"concurrency": {"queue": 1}}) as laid:
        first, second = delivery("wait", Order(60)), delivery("wait", Order(60))
        laid.runner.take([first, second])
        await laid.heard.until_begun(first)
        assert laid.runner.stop(second.envelope.job_id, 1, EndReason.END_REASON_CANCELLED_BY_REQUEST)
        await laid.heard.end_of(second)
        laid.runner.stop(first.envelope.job_id, 1, EndReason.END_REASON_CANCELLED_BY_REQUEST)
        await laid.heard.end_of(first)


async def test_a_queue_without_limits_asks_for_nothing() -> None:
    lender = Lender()
    async with limited(lender, {}) as laid:
        assert (await laid.run(delivery("nothing")))[1].outcome == SUCCEEDED
    assert lender.asked == 0


async def test_a_limit_that_is_lifted_lets_all_go() -> None:
    lender = Lender()
    gates = Gates(lender, "w1")
    async with running() as laid:
        laid.runner.limit(gates)
        gates.follow(known(settings={"concurrency": {"queue": 1}}), ["default"])
        job = delivery("nothing")
        laid.runner.take([job])
        await asyncio.sleep(0.05)
        assert laid.heard.endings == {}  # The lender has none.
        lifted: dict[str, Known] = known()
        gates.follow(lifted, ["default"])
        assert (await laid.heard.end_of(job))[1].outcome == SUCCEEDED
        await gates.close()
