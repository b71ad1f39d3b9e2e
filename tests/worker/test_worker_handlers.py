"""How handlers are declared, found, wrapped and given what they need."""

import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.chassis.db import Database
from services.chassis.jobs.context import BlockingJob, Facts, Job, StateTooLarge
from services.chassis.jobs.effects import once
from services.chassis.jobs.errors import Cancelled, Fail, Retry
from services.chassis.jobs.handlers import BadHandler, Kind, Next, Registry, job, lifespan, middleware
from services.chassis.jobs.limits import Limits
from services.worker.ending import FAILED, SUCCEEDED
from tests.worker.handlers import Order, Place, echo
from tests.worker.running import delivery, running


class Silent:
    """Nobody who hears; `cancelled` is as set."""

    def __init__(self, cancelled: bool = False) -> None:
        self.cancelled = cancelled
        self.states: list[bytes] = []

    def progress(self, percent: float, message: str) -> None:
        """Nobody hears."""

    def checkpoint(self, state: bytes) -> None:
        self.states.append(state)


def facts(**values: Any) -> Facts:
    return Facts(**{"id": uuid4(), "type": "t", "queue": "q", **values})


def test_the_signature_says_where_a_handler_runs() -> None:
    assert Registry.of(["tests.worker.handlers"]).handlers["echo"] is echo
    kinds = {name: each.kind for name, each in Registry.of(["tests.worker.handlers"]).handlers.items()}
    assert (kinds["echo"], kinds["thread"]) == (Kind.ASYNC, Kind.THREAD)
    assert (kinds["process"], kinds["misbehave"]) == (Kind.PROCESS, Kind.PROCESS)


async def test_a_handler_is_called_as_the_function_it_is() -> None:
    assert await echo(Job(facts(attempt=2), Silent()), Order(1, "x")) == Order(2, "x 2")


def bad(function: Any, **options: Any) -> str:
    with pytest.raises(BadHandler) as refused:
        job(options.pop("type", "t"), **options)(function)
    return str(refused.value)


async def untyped(job, payload):  # type: ignore[no-untyped-def]
    """No annotations."""


async def swapped(job: BlockingJob) -> None:
    """The wrong kind of job."""


async def listed(job: Job, payload: list[int]) -> None:
    """A payload that is no type of ours."""


async def streamed(job: Job) -> AsyncIterator[int]:
    yield 1


async def fine(job: Job) -> None:
    """Nothing is wrong with it."""


def test_what_cannot_be_a_handler_is_refused_before_any_job_runs() -> None:
    assert "fully annotated" in bad(untyped)
    assert "is a Job" in bad(swapped)
    assert "a protobuf message, a dataclass, bytes or None" in bad(listed)
    assert "no generator" in bad(streamed)
    assert "plain function" in bad(fine, process=True)
    assert "no job type" in bad(fine, type="with space")
    assert "above 0" in bad(fine, timeout_s=0)
    with pytest.raises(ValueError, match="memory_bytes must be above 0"):
        Limits(memory_bytes=0)
    for wrong in (lambda: Retry(after_s=-1), lambda: Fail("no reason")):
        with pytest.raises(ValueError, match=r"after_s|UPPER_SNAKE"):
            wrong()


def module(**values: Any) -> str:
    made = ModuleType(f"made_{uuid4().hex}")
    vars(made).update(values)
    sys.modules[made.__name__] = made
    return made.__name__


def test_two_handlers_of_one_type_are_refused_with_both_their_names() -> None:
    other = job("echo")(fine)
    with pytest.raises(BadHandler, match=r"echo has two handlers: tests\.worker\.handlers\.echo and .*fine"):
        Registry.of([module(a=echo, b=other)])
    assert len(Registry.of([module(a=echo), module(again=echo)]).handlers) == 1
    with pytest.raises(BadHandler, match="there is no handler in"):
        Registry.of([module()])


async def test_middleware_is_around_every_kind_of_handler() -> None:
    seen: list[str] = []

    @middleware
    async def outer(job: Job, proceed: Next) -> Any:
        seen.append(f"> {job.facts.type}")
        try:
            return await proceed()
        finally:
            seen.append(f"< {job.facts.type}")

    @middleware
    async def inner(job: Job, proceed: Next) -> Any:
        if job.facts.labels.get("forbidden"):
            raise Fail("FORBIDDEN")
        return await proceed()

    name = module(outer=outer, inner=inner)
    async with running(modules=["tests.worker.handlers", name], apart=["tests.worker.handlers"]) as laid:
        for type_name in ("echo", "thread", "process"):
            assert (await laid.run(delivery(type_name, Order(1))))[1].outcome == SUCCEEDED
        ending, verdict = await laid.run(delivery("echo", Order(1), labels={"forbidden": "yes"}))
    assert verdict.outcome == FAILED
    assert ending.failure is not None
    assert ending.failure.code == "FORBIDDEN"
    assert seen == [f"{sign} {each}" for each in ("echo", "thread", "process", "echo") for sign in "><"]


async def test_a_lifespan_is_open_around_a_suspect_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process is not the worker's, so that it opens what the handler needs by itself."""
    monkeypatch.setenv("WEFT_DEVELOPMENT", "1")
    async with running(modules=["tests.worker.spanned"]) as laid:
        ending, _ = await laid.run(delivery("spanned", deliveries=3))
        assert ending.result == b"open"


def test_a_lifespan_is_an_async_generator() -> None:
    with pytest.raises(BadHandler, match="async generator"):
        lifespan(fine)  # type: ignore[arg-type]
    with pytest.raises(BadHandler, match="async function"):
        middleware(lambda job, proceed: proceed())  # type: ignore[arg-type, return-value]


def test_a_plain_function_stops_where_it_tells_something() -> None:
    stopped = BlockingJob(facts(), Silent(cancelled=True))
    for tell in (stopped.check, lambda: stopped.progress(1), lambda: stopped.checkpoint(Place(1))):
        with pytest.raises(Cancelled):
            tell()
    assert stopped.cancelled


def test_a_job_knows_itself() -> None:
    told = Silent()
    one = BlockingJob(facts(attempt=5, attempts_max=5, ends_s=86_400.0, state=b'{"row": 7}'), told)
    assert (one.last_attempt, one.remaining_s(), one.restored(Place)) == (True, 0.0, Place(7))
    assert one.deadline is not None
    assert one.deadline.isoformat() == "1970-01-02T00:00:00+00:00"
    assert one.token == f"job-{one.id}"
    assert BlockingJob(facts(), told).restored(Place) is None
    with pytest.raises(ValueError, match="percent must lie between 0 and 100, not 101"):
        one.progress(101)
    with pytest.raises(StateTooLarge):
        one.checkpoint(b"x" * 800_000)
    assert told.states == []


@dataclass
class Charge:
    job_id: UUID
    step: str


async def test_an_effect_happens_once_however_often_its_job_runs(fresh_database: str) -> None:
    db = Database(fresh_database)
    one, other = (Job(facts(), Silent()) for _ in range(2))
    effects: list[Charge] = []

    async def attempt(job: Job, step: str, *, dies: bool = False) -> None:
        async with db.transaction() as tx:
            if await once(tx, job, step):
                await asyncio.sleep(0)
                if dies:
                    raise ConnectionError
                effects.append(Charge(job.id, step))

    try:
        with pytest.raises(ConnectionError):
            await attempt(one, "charge", dies=True)
        await asyncio.gather(*(attempt(one, "charge") for _ in range(5)))
        await attempt(one, "mail")
        await attempt(other, "charge")
        async with db.fast() as tx:
            assert not await once(tx, one, "charge")
            with pytest.raises(ValueError, match="at most 100 characters"):
                await once(tx, one, "x" * 101)
    finally:
        await db.close()
    assert effects == [Charge(one.id, "charge"), Charge(one.id, "mail"), Charge(other.id, "charge")]
