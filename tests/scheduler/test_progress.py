"""Any graph, any outcomes in any order, heard any number of times: a run starts each task once, never before
what it needs, and ends complete or undone in reverse order."""

from datetime import UTC, datetime, timedelta
from itertools import count
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings, strategies as st

from services.scheduler.domain.expression import evaluate
from services.scheduler.domain.progress import (
    FINAL,
    UNENDED,
    Cancel,
    Ended,
    Outcome,
    Progress,
    RunState,
    Start,
    TaskRun,
    TaskState,
    WorkflowRun,
    new_tasks,
)
from services.scheduler.domain.workflow import Definition, Kind, Rule, Task, Work

NOW = datetime(2026, 1, 1, tzinfo=UTC)
evaluate("true", {})  # Its first use raises the interpreter's recursion limit.


class World:
    """A run, and the jobs that it asked for."""

    def __init__(self, definition: Definition) -> None:
        self.definition = definition
        numbers = count(1)
        self.new_id = lambda: UUID(int=next(numbers))  # The same in each replay of an example.
        self.run = WorkflowRun(
            run_id=uuid4(), workflow_id=uuid4(), version=1, state=RunState.RUNNING, input={}, failure=""
        )
        self.run.successes, self.run.deadline_at = 0, NOW + timedelta(days=1)
        self.tasks = new_tasks(definition, self.run.run_id)
        self.open: dict[UUID, Start] = {}
        self.starts: list[Start] = []
        self.cancelled: set[UUID] = set()
        self.undone: list[str] = []
        self.now = NOW

    def step(self, verb: str, *args: object) -> None:
        progress = Progress(self.definition, self.run, self.tasks, self.now, self.new_id)
        before = {name: task.state for name, task in self.tasks.items()}
        getattr(progress, verb)(*args)
        for order in progress.orders:
            if isinstance(order, Cancel):
                self.cancelled.add(order.job_id)
                continue
            self._started(order, before)

    def _started(self, order: Start, before: dict[str, str]) -> None:
        row, task = self.tasks[order.task], self.definition.by_name[order.task]
        if row.undo_job_id == order.job_id:
            assert not any(each.state in UNENDED for each in self.tasks.values())
            later = [
                each
                for each in self.tasks.values()
                if (each.succeeded_no or 0) > (row.succeeded_no or 0)
                and self.definition.by_name[each.name].undo
            ]
            assert all(each.state == TaskState.COMPENSATED for each in later), "the last is undone first"
            self.undone.append(order.task)
        else:
            assert before[order.task] == TaskState.PENDING, "started once"
            states = {name: self.tasks[name].state for name in task.needs}
            if task.rule is Rule.ALL_SUCCEEDED:
                assert set(states.values()) <= {TaskState.SUCCEEDED}
            if task.rule is Rule.ALL_ENDED:
                assert not set(states.values()) & set(UNENDED)
            if task.rule is Rule.ANY_SUCCEEDED:
                assert TaskState.SUCCEEDED in states.values()
            if task.rule is Rule.ANY_FAILED:
                assert TaskState.FAILED in states.values()
        self.starts.append(order)
        self.open[order.job_id] = order

    def finish(self, job_id: UUID, outcome: Outcome) -> None:
        self.open.pop(job_id, None)
        self.step("ended", Ended(job_id, outcome, "RETURNED"))


@st.composite
def graphs(draw: st.DrawFn) -> Definition:
    names = [f"t{n}" for n in range(draw(st.integers(1, 7)))]
    tasks = []
    for n, name in enumerate(names):
        needs = draw(st.lists(st.sampled_from(names[:n]), unique=True, max_size=3)) if n else []
        rule = draw(st.sampled_from(list(Rule))) if needs else Rule.ALL_SUCCEEDED
        undo = Work(job=b"undo") if draw(st.booleans()) else None
        condition = draw(st.sampled_from(["", "", "", "run.version == 1", "run.version == 2"]))
        tasks.append(
            Task(name=name, work=Work(job=b"do"), needs=needs, rule=rule, undo=undo, condition=condition)
        )
    return Definition(tasks=draw(st.permutations(tasks)))


def drive(data: st.DataObject, definition: Definition, *, undo_fails: bool) -> World:
    """Ends jobs in any order, some twice, with any outcome; now and then somebody calls the run off."""
    definition.check()
    world = World(definition)
    world.step("begin")
    heard: list[tuple[UUID, Outcome]] = []
    while world.open:
        job_id = data.draw(st.sampled_from(sorted(world.open, key=lambda each: each.int)))
        undoing = world.open[job_id].job == b"undo"
        outcomes = list(Outcome) if not undoing or undo_fails else [Outcome.SUCCEEDED]
        if job_id in world.cancelled:
            outcomes = [Outcome.CANCELLED, Outcome.SUCCEEDED]
        outcome = data.draw(st.sampled_from([Outcome.SUCCEEDED, *outcomes]))
        world.finish(job_id, outcome)
        heard.append((job_id, outcome))
        for again in data.draw(st.lists(st.sampled_from(heard), max_size=2)):
            world.finish(*again)
        if data.draw(st.integers(0, 9)) == 0 and world.run.state == RunState.RUNNING:
            world.step("cancel")
    return world


@settings(max_examples=120, deadline=None)
@given(st.data(), graphs())
def test_a_run_ends_complete_or_wholly_undone(data: st.DataObject, definition: Definition) -> None:
    world = drive(data, definition, undo_fails=False)
    assert world.run.state in FINAL
    assert len({start.job_id for start in world.starts}) == len(world.starts)
    started = [start.task for start in world.starts if start.job == b"do"]
    assert len(started) == len(set(started)), "each task is started at most once"
    states = {name: TaskState(task.state) for name, task in world.tasks.items()}
    assert not set(states.values()) & {*UNENDED, TaskState.COMPENSATING}
    if world.run.state == RunState.SUCCEEDED:
        unhandled = {name for name, state in states.items() if state is TaskState.FAILED} - definition.handled
        assert not unhandled
        assert not world.undone
    else:
        effects = {name for name, task in world.tasks.items() if task.succeeded_no}
        undoable = {name for name in effects if definition.by_name[name].undo}
        assert set(world.undone) == undoable
        places = [world.tasks[name].succeeded_no or 0 for name in world.undone]
        assert places == sorted(places, reverse=True)


@settings(max_examples=60, deadline=None)
@given(st.data(), graphs())
def test_a_run_whose_undoing_failed_goes_on_when_it_is_retried(
    data: st.DataObject, definition: Definition
) -> None:
    world = drive(data, definition, undo_fails=True)
    while world.run.state == RunState.STUCK:
        world.step("retry")
        while world.open:
            world.finish(next(iter(world.open)), Outcome.SUCCEEDED)
    assert world.run.state in FINAL


def chain(**second: object) -> Definition:
    first = Task(name="a", work=Work(job=b"do"), undo=Work(job=b"undo"), outputs={"n": Kind.NUMBER})
    needs = {"needs": ["a"], **second}
    return Definition(tasks=[first, Task(name="b", work=Work(job=b"do"), **needs)])  # type: ignore[arg-type]


def job(world: World, name: str) -> UUID:
    task: TaskRun = world.tasks[name]
    assert task.job_id
    return task.job_id


def test_inputs_come_from_outputs() -> None:
    definition = Definition(
        tasks=[
            chain().tasks[0],
            Task(name="b", needs=["a"], work=Work(job=b"do", inputs={"double": "tasks.a.output.n * 2"})),
        ]
    )
    definition.check()
    world = World(definition)
    world.step("begin")
    world.step("ended", Ended(job(world, "a"), Outcome.SUCCEEDED, "RETURNED", {"n": 21}))
    assert world.starts[-1].payload == b'{"double": 42}'


def test_a_result_of_another_kind_fails_the_task_and_its_effect_is_undone() -> None:
    world = World(chain())
    world.step("begin")
    world.step("ended", Ended(job(world, "a"), Outcome.SUCCEEDED, "RETURNED", {"n": "many"}))
    assert world.tasks["a"].state == TaskState.COMPENSATING
    assert world.run.failure == "a: OUTPUT_REFUSED: n is missing or no number"


def test_a_task_past_its_deadline_is_called_off_and_has_failed() -> None:
    definition = Definition(
        tasks=[Task(name="a", work=Work(job=b"do"), timeout=timedelta(minutes=1), undo=Work(job=b"undo"))]
    )
    world = World(definition)
    world.step("begin")
    world.step("time_out")
    assert not world.cancelled
    world.now += timedelta(minutes=1)
    world.step("time_out")
    assert world.cancelled == {job(world, "a")}
    world.finish(job(world, "a"), Outcome.SUCCEEDED)
    assert world.undone == ["a"], "it came late, but its effect is there"
    assert world.run.failure == "a: TIMED_OUT"


def test_a_run_past_its_deadline_is_stopped() -> None:
    world = World(chain())
    world.step("begin")
    world.now += timedelta(days=1)
    world.step("time_out")
    world.finish(job(world, "a"), Outcome.CANCELLED)
    assert (world.run.state, world.run.failure) == (RunState.COMPENSATED, "TIMED_OUT")


def test_an_expression_without_a_value_fails_its_task() -> None:
    world = World(chain(condition="tasks.a.output.n > 3"))
    world.step("begin")
    world.step("ended", Ended(job(world, "a"), Outcome.SUCCEEDED, "RETURNED", {"n": 5}))
    assert world.tasks["b"].state == TaskState.STARTED
    world = World(chain(condition="tasks.a.output.m > 3"))
    world.step("begin")
    world.step("ended", Ended(job(world, "a"), Outcome.SUCCEEDED, "RETURNED", {"n": 5}))
    assert world.tasks["b"].reason.startswith("EXPRESSION: ")


@pytest.mark.parametrize("state", list(FINAL))
def test_an_ended_run_hears_nothing_more(state: RunState) -> None:
    world = World(chain())
    world.run.state = state
    world.step("ended", Ended(uuid4(), Outcome.FAILED))
    world.step("time_out")
    assert not world.starts
