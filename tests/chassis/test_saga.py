"""A saga runs its steps in order, undoes them in reverse, and can be waited for, called off and helped."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.chassis import saga_runner, saga_store
from services.chassis.clock import Clock, FakeClock
from services.chassis.db import Database
from services.chassis.errors import FailedPrecondition, Unavailable
from services.chassis.saga import Act, Done, Run, Saga, Start, Step, Wait
from services.chassis.saga_runner import Sagas
from services.chassis.saga_store import ProcessEnded, Row, State, UnknownProcess
from services.chassis.testing import until
from tests.chassis.conftest import Running


class Full(FailedPrecondition):
    """There is no room."""


class Away(Unavailable):
    """It is away."""


class Lab:
    """Sagas over one database; acts write down that they were called."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self.db, self.clock, self.calls = db, clock, list[str]()

    def act(self, name: str, *outcomes: Any) -> Act:
        """Each call has the next outcome, the last for ever: an exception or what the act returns."""
        left = list(outcomes) or [None]

        async def act(run: Run) -> Any:
            self.calls.append(name)
            outcome = left.pop(0) if len(left) > 1 else left[0]
            if callable(outcome):
                outcome = await outcome(run)
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        return act

    def step(self, name: str, *outcomes: Any, undo: Any = None, timeout_s: float = 5.0) -> Step:
        undone = self.act(f"-{name}", *(undo if isinstance(undo, tuple) else (undo,)))
        return Step(name, self.act(name, *outcomes), undone, timeout_s)

    def sagas(self, *steps: Step, timeout_s: float = 60.0, until: str = "", **rest: Any) -> Sagas:
        return Sagas(self.db, self.clock, [Saga("trip", steps, timeout_s, until)], "lab", **rest)

    async def start(self, sagas: Sagas, saga_id: UUID | None = None, **rest: Any) -> UUID:
        chosen = saga_id or uuid4()
        async with self.db.fast() as tx:
            await sagas.start(tx, trip(chosen, **rest))
        await sagas.resting("trip", chosen)
        return chosen

    async def row(self, saga_id: UUID) -> Row:
        return await saga_store.find(self.db, "trip", saga_id)

    async def state(self, saga_id: UUID) -> str:
        return (await self.row(saga_id)).state

    async def becomes(self, saga_id: UUID, state: str) -> Row:
        async def there() -> bool:
            if isinstance(self.clock, FakeClock):
                self.clock.advance(0.5)
            return await self.state(saga_id) == state

        await until(there)
        return await self.row(saga_id)


def trip(saga_id: UUID, **rest: Any) -> Start:
    return Start(kind="trip", saga_id=saga_id, data={"of": "us"}, subject="s", **rest)


@pytest.fixture
def lab(db: Database) -> Lab:
    return Lab(db, Clock())


@pytest.fixture
def timeless(db: Database) -> Lab:
    """Time passes when the test says so."""
    return Lab(db, FakeClock())


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saga_runner, "RETRY_S", 0.001)


async def test_steps_run_in_order_and_what_each_adds_is_known_to_the_next(lab: Lab) -> None:
    seen: list[dict[str, Any]] = []

    async def look(run: Run) -> Done:
        seen.append(dict(run.data))
        return Done({"b": 2})

    sagas = lab.sagas(lab.step("a", Done({"a": 1})), lab.step("b", look), lab.step("c", look))
    saga_id = await lab.start(sagas)
    assert lab.calls == ["a", "b", "c"]
    assert seen == [{"of": "us", "a": 1}, {"of": "us", "a": 1, "b": 2}]
    assert await lab.state(saga_id) == State.DONE
    log = await saga_store.steps_of(lab.db, "s")
    assert [(entry["step"], entry["outcome"]) for entry in log] == [
        ("a", "DONE"),
        ("b", "DONE"),
        ("c", "DONE"),
    ]


async def test_a_saga_begins_once_and_after_the_step_that_was_done_already(lab: Lab) -> None:
    sagas = lab.sagas(lab.step("a"), lab.step("b"))
    saga_id = await lab.start(sagas, after="a")
    assert lab.calls == ["b"]
    await lab.start(sagas, saga_id)
    assert lab.calls == ["b"]


async def test_a_saga_of_a_transaction_that_rolls_back_never_was(lab: Lab) -> None:
    sagas, saga_id = lab.sagas(lab.step("a")), uuid4()
    with pytest.raises(Full):
        async with lab.db.fast() as tx:
            await sagas.start(tx, trip(saga_id))
            raise Full
    assert lab.calls == []
    with pytest.raises(UnknownProcess):
        await lab.row(saga_id)


async def test_a_refusal_undoes_what_was_done_last_first_and_not_the_step_that_did_nothing(lab: Lab) -> None:
    sagas = lab.sagas(lab.step("a"), Step("look", lab.act("look")), lab.step("b"), lab.step("c", Full()))
    row = await lab.row(await lab.start(sagas))
    assert lab.calls == ["a", "look", "b", "c", "-b", "-a"]
    assert (row.state, row.reason, row.failed_step, row.message) == (
        "UNDONE",
        "FULL",
        "c",
        "There is no room.",
    )


async def test_the_first_step_refused_leaves_nothing_to_undo(lab: Lab) -> None:
    saga_id = await lab.start(lab.sagas(lab.step("a", Full())))
    assert (lab.calls, await lab.state(saga_id)) == (["a"], "UNDONE")


async def test_a_step_that_is_not_due_is_neither_done_nor_undone(lab: Lab) -> None:
    def never(data: Any) -> bool:
        return bool(data["of"] == "them")

    first, middle = (Step(n, lab.act(n), lab.act(f"-{n}"), only_if=never) for n in ("first", "middle"))
    last = Step("last", lab.act("last"), only_if=never)
    assert await lab.state(await lab.start(lab.sagas(first, lab.step("a"), middle, last))) == "DONE"
    await lab.start(lab.sagas(first, lab.step("a"), middle, lab.step("b", Full())))
    assert lab.calls == ["a", "a", "b", "-a"]


async def test_a_step_whose_outcome_is_unknown_is_undone_as_well(lab: Lab, running: Running) -> None:
    async def hang(run: Run) -> None:
        await asyncio.sleep(60)

    sagas = lab.sagas(lab.step("a"), lab.step("b", hang, Full(), timeout_s=0.01))
    async with running(sagas.run()):
        await lab.becomes(await lab.start(sagas), "UNDONE")
    assert lab.calls == ["a", "b", "b", "-b", "-a"]


async def test_what_is_away_is_tried_again(lab: Lab, running: Running) -> None:
    sagas = lab.sagas(lab.step("a", Away(), TimeoutError(), OSError(), None), lab.step("b"))
    async with running(sagas.run()):
        await lab.becomes(await lab.start(sagas), "DONE")
    assert lab.calls == ["a", "a", "a", "a", "b"]


async def test_a_bug_is_tried_some_times_and_turns_the_saga_back(lab: Lab, running: Running) -> None:
    sagas = lab.sagas(lab.step("a"), lab.step("b", ZeroDivisionError()))
    async with running(sagas.run()):
        row = await lab.becomes(await lab.start(sagas), "UNDONE")
    assert lab.calls == ["a", *["b"] * saga_runner.BUGS_MAX, "-b", "-a"]
    assert row.reason == "INTERNAL"


async def test_a_change_of_our_own_that_is_refused_undoes_what_its_step_did_elsewhere(lab: Lab) -> None:
    async def refuse(tx: Any) -> None:
        raise Full

    saga_id = await lab.start(lab.sagas(lab.step("a"), lab.step("b", Done(change=refuse))))
    assert (lab.calls, await lab.state(saga_id)) == (["a", "b", "-b", "-a"], "UNDONE")


async def test_a_waiting_saga_goes_on_when_it_is_woken(timeless: Lab, running: Running) -> None:
    sagas = timeless.sagas(timeless.step("a", Wait(50), None))
    async with running(sagas.run()):
        saga_id = await timeless.start(sagas)
        assert (await timeless.row(saga_id)).due_at is not None
        assert timeless.calls == ["a"]
        async with timeless.db.fast() as tx:
            await sagas.wake(tx, "trip", saga_id)
        await until(lambda: _is(timeless.state(saga_id), "DONE"))
    assert timeless.calls == ["a", "a"]


async def _is(found: Any, wanted: str) -> bool:
    return bool(await found == wanted)


async def test_what_comes_while_its_step_is_about_to_wait_is_not_missed(
    timeless: Lab, running: Running
) -> None:
    saga_id = uuid4()

    async def too_early(run: Run) -> Wait:
        async with timeless.db.fast() as tx:
            await sagas.wake(tx, "trip", saga_id)
        return Wait(50)

    sagas = timeless.sagas(timeless.step("a", too_early, None))
    async with running(sagas.run()):
        await timeless.start(sagas, saga_id)
        await until(lambda: _is(timeless.state(saga_id), "DONE"))


async def test_a_saga_that_waits_past_its_deadline_is_undone(timeless: Lab, running: Running) -> None:
    sagas = timeless.sagas(timeless.step("a"), timeless.step("b", Wait(10)), timeout_s=25)
    async with running(sagas.run()):
        row = await timeless.becomes(await timeless.start(sagas), "UNDONE")
    assert (row.reason, row.failed_step) == ("TIMED_OUT", "")
    assert timeless.calls == ["a", "b", "b", "b", "-b", "-a"]


async def test_no_deadline_counts_after_the_step_that_it_is_for(timeless: Lab, running: Running) -> None:
    steps = timeless.step("a"), timeless.step("b", Wait(50), None)
    sagas = timeless.sagas(*steps, timeout_s=25, until="a")
    async with running(sagas.run()):
        await timeless.becomes(await timeless.start(sagas), "DONE")


async def test_one_that_is_done_can_be_called_off(lab: Lab, running: Running) -> None:
    sagas = lab.sagas(lab.step("a"), lab.step("b"))
    async with running(sagas.run()):
        saga_id = await lab.start(sagas)
        async with lab.db.fast() as tx:
            assert await sagas.call_off(tx, "trip", saga_id, "NOT_WANTED")
        row = await lab.becomes(saga_id, "UNDONE")
        async with lab.db.fast() as tx:
            assert not await sagas.call_off(tx, "trip", saga_id, "AGAIN")
    assert row.reason == "NOT_WANTED"
    assert lab.calls == ["a", "b", "-b", "-a"]


async def test_one_that_is_called_off_in_the_middle_of_a_step_ends_the_step_and_turns_back(lab: Lab) -> None:
    saga_id = uuid4()

    async def called_off(run: Run) -> None:
        async with lab.db.fast() as tx:
            assert await sagas.call_off(tx, "trip", saga_id, "NOT_WANTED")

    sagas = lab.sagas(lab.step("a"), lab.step("b", called_off), lab.step("c"))
    await lab.start(sagas, saga_id)
    assert (lab.calls, await lab.state(saga_id)) == (["a", "b", "-b", "-a"], "UNDONE")


async def test_one_that_is_called_off_in_its_last_step_is_not_done(lab: Lab, running: Running) -> None:
    saga_id = uuid4()

    async def called_off(run: Run) -> None:
        async with lab.db.fast() as tx:
            assert await sagas.call_off(tx, "trip", saga_id, "NOT_WANTED")

    sagas = lab.sagas(lab.step("a"), lab.step("b", called_off))
    async with running(sagas.run()):
        await lab.start(sagas, saga_id)
        await lab.becomes(saga_id, "UNDONE")
    assert lab.calls == ["a", "b", "-b", "-a"]


async def test_what_cannot_be_undone_is_stuck_until_a_person_lets_it_go_on(
    lab: Lab, running: Running
) -> None:
    undo = (*[Full()] * saga_runner.REFUSED_UNDO_MAX, None)
    sagas = lab.sagas(lab.step("a"), lab.step("b", undo=undo), lab.step("c", Full()))
    async with running(sagas.run()):
        saga_id = await lab.start(sagas)
        row = await lab.becomes(saga_id, "STUCK")
        assert sagas.step(row) == "b"
        assert [each.saga_id for each in await saga_store.unsettled(lab.db, 10, "STUCK")] == [saga_id]
        async with lab.db.fast() as tx:
            await sagas.retry(tx, "trip", saga_id)
        await lab.becomes(saga_id, "UNDONE")
        async with lab.db.fast() as tx:
            with pytest.raises(ProcessEnded):
                await sagas.retry(tx, "trip", saga_id)
    assert lab.calls == ["a", "b", "c", *["-b"] * (saga_runner.REFUSED_UNDO_MAX + 1), "-a"]


async def test_two_replicas_never_run_one_saga_at_once(lab: Lab, running: Running) -> None:
    inside = dict[UUID, int]()
    crowded = list[UUID]()

    async def enter(run: Run) -> None:
        inside[run.saga_id] = inside.get(run.saga_id, 0) + 1
        if inside[run.saga_id] > 1:
            crowded.append(run.saga_id)
        await asyncio.sleep(0.001)
        inside[run.saga_id] -= 1

    steps = [Step("a", enter), Step("b", enter)]
    nobody = Sagas(lab.db, lab.clock, [Saga("trip", steps, 60)], "lab", room=0)
    replicas = [lab.sagas(*steps) for _ in range(3)]
    ids = [await lab.start(nobody) for _ in range(40)]
    async with running(replicas[0].run()), running(replicas[1].run()), running(replicas[2].run()):
        ended = "select count(*) = $1 from saga where state = 'DONE'"
        await until(lambda: lab.db.fetchval(ended, len(ids)))
    assert crowded == []
    assert await lab.db.fetchval("select count(*) from saga_step") == 2 * len(ids)


async def test_one_that_was_paused_past_its_lease_records_nothing_more(lab: Lab, running: Running) -> None:
    paused, goes_on = asyncio.Event(), asyncio.Event()

    async def pause(run: Run) -> Done:
        paused.set()
        await goes_on.wait()

        async def never(tx: Any) -> None:
            lab.calls.append("recorded by one that lost it")

        return Done(change=never)

    late = lab.sagas(Step("a", pause), lab.step("b"))
    saga_id = uuid4()
    async with lab.db.fast() as tx:
        await late.start(tx, trip(saga_id))
    await paused.wait()
    await lab.db.execute("update saga set held_until = now() - interval '1 s'")
    other = lab.sagas(lab.step("a"), lab.step("b"))
    async with running(other.run()):
        await lab.becomes(saga_id, "DONE")
    goes_on.set()
    await late.resting("trip", saga_id)
    assert lab.calls == ["a", "b"]


async def test_a_process_that_stops_lets_go_of_its_sagas(lab: Lab, running: Running) -> None:
    begun = asyncio.Event()

    async def hang(run: Run) -> None:
        begun.set()
        await asyncio.sleep(60)

    stopped = lab.sagas(Step("a", hang, timeout_s=60.0))
    async with running(stopped.run()):
        async with lab.db.fast() as tx:
            saga_id = uuid4()
            await stopped.start(tx, trip(saga_id))
        await begun.wait()
    other = lab.sagas(lab.step("a"))
    async with running(other.run()):
        await lab.becomes(saga_id, "DONE")
    assert (await lab.row(saga_id)).attempts == 0


async def test_no_more_run_at_once_than_there_is_room_for(lab: Lab, running: Running) -> None:
    inside, most = 0, 0

    async def enter(run: Run) -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0.002)
        inside -= 1

    sagas = lab.sagas(Step("a", enter), room=3)
    async with running(sagas.run()):
        async with lab.db.fast() as tx:
            for _ in range(20):
                await sagas.start(tx, trip(uuid4()))
        await until(lambda: lab.db.fetchval("select count(*) = 20 from saga where state = 'DONE'"))
    assert most == 3


async def test_what_ended_long_ago_is_forgotten(timeless: Lab) -> None:
    saga_id = await timeless.start(timeless.sagas(timeless.step("a")))
    await saga_store.forget(timeless.db, timeless.clock.now())
    assert await timeless.state(saga_id) == "DONE"
    timeless.clock.advance(1)  # type: ignore[attr-defined]
    await saga_store.forget(timeless.db, timeless.clock.now())
    with pytest.raises(UnknownProcess):
        await timeless.row(saga_id)
    assert await timeless.db.fetchval("select count(*) from saga_step") == 0
