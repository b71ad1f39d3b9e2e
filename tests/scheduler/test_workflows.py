"""Workflows through gRPC: validated, versioned, run by their jobs' ends, undone, started by others."""

import asyncio
from contextlib import suppress
from itertools import count
from typing import Any
from uuid import uuid4

import grpc
import pytest

from services.chassis.testing import reason, until
from services.scheduler.launching import Launcher
from tests.scheduler.world import FAILED, SUCCEEDED, World, graph, undo
from weft.identity.v1.events_pb2 import UserDeleted
from weft.scheduler.v1 import workflow_pb2 as pb, workflow_run_pb2 as runs

ORDER = (
    {
        "name": "reserve",
        "inputs": {"sku": "input.sku", "run": "run.id"},
        "outputs": {"reservation": "VALUE_TYPE_STRING", "units": "VALUE_TYPE_NUMBER"},
        "compensation": {
            "job": {"type": "undo.reserve"},
            "inputs": {"id": "tasks.reserve.output.reservation"},
        },
    },
    {"name": "charge", "needs": ["reserve"], "inputs": {"cents": "tasks.reserve.output.units * 250"}},
    {"name": "ship", "needs": ["charge"], "condition": "input.express"},
)
INPUTS = {
    "sku": {"type": "VALUE_TYPE_STRING", "required": True},
    "express": {"type": "VALUE_TYPE_BOOL", "required": True},
}
RESERVED = {"reservation": "r-1", "units": 3}


@pytest.fixture
async def here(shared_world: World) -> World:
    shared_world.queue.forget()
    return shared_world


def payload(here: World, job_id: str) -> bytes:
    data: bytes = here.queue.jobs[job_id].payload.data
    return data


async def test_tasks_run_in_order_on_each_others_results(here: World) -> None:
    run_id = await here.start(await here.workflow(*ORDER, inputs=INPUTS), sku="W-1", express=False)
    reserve = await here.task_job("reserve")
    assert payload(here, reserve) == b'{"run": "%s", "sku": "W-1"}' % run_id.encode()
    await here.queue.end(reserve, result=RESERVED, times=2)
    charge = await here.task_job("charge")
    assert payload(here, charge) == b'{"cents": 750}'
    await here.queue.end(charge)
    run = await here.run_becomes(run_id, "SUCCEEDED")
    states = {task.name: runs.TaskState.Name(task.state).removeprefix("TASK_STATE_") for task in run.tasks}
    assert states == {"reserve": "SUCCEEDED", "charge": "SUCCEEDED", "ship": "SKIPPED"}
    assert len(here.queue.taken) == 2


async def test_what_succeeded_is_undone_when_a_later_task_fails(here: World) -> None:
    run_id = await here.start(await here.workflow(*ORDER, inputs=INPUTS), sku="W-1", express=True)
    await here.queue.end(await here.task_job("reserve"), result=RESERVED)
    await here.queue.end(await here.task_job("charge"), FAILED)
    undoing = await here.task_job("reserve", undo=True)
    assert payload(here, undoing) == b'{"id": "r-1"}'
    await here.queue.end(undoing)
    run = await here.run_becomes(run_id, "COMPENSATED")
    assert run.failure == "charge: RETURNED"


@pytest.mark.parametrize("step", range(6))
@pytest.mark.parametrize("fails", [False, True])
async def test_a_crash_in_any_step_changes_nothing_of_how_a_run_ends(
    here: World, monkeypatch: pytest.MonkeyPatch, step: int, fails: bool
) -> None:
    """The transaction of one step is lost with all that it wrote; whoever asked for it asks again."""
    carry_out, calls, crashed = Launcher._carry_out, count(), []

    async def crashing(self: Launcher, *args: Any, **rest: Any) -> None:
        await carry_out(self, *args, **rest)
        if next(calls) == step:
            crashed.append(step)
            raise RuntimeError("killed here")

    workflow_id = await here.workflow(
        {"name": "a", "compensation": undo("a")},
        {"name": "b", "needs": ["a"], "compensation": undo("b")},
        {"name": "c", "needs": ["a", "b"]},
    )
    monkeypatch.setattr(Launcher, "_carry_out", crashing)
    request = runs.StartWorkflowRunRequest(run_id=str(uuid4()), workflow_id=workflow_id)
    with suppress(grpc.aio.AioRpcError):
        await here.runs.StartWorkflowRun(request, metadata=here.me)
    await here.runs.StartWorkflowRun(request, metadata=here.me)
    for task in ("a", "b"):
        await here.queue.end(await here.task_job(task))
    await here.queue.end(await here.task_job("c"), FAILED if fails else SUCCEEDED)
    for task in ("b", "a") if fails else ():
        await here.queue.end(await here.task_job(task, undo=True))
    await here.run_becomes(request.run_id, "COMPENSATED" if fails else "SUCCEEDED")
    assert len(here.queue.taken) == (5 if fails else 3), "no step asked for a job twice"
    assert crashed or (step >= 4 and not fails)


async def test_a_compensation_that_fails_leaves_the_run_stuck_until_it_is_retried(here: World) -> None:
    workflow_id = await here.workflow({"name": "a", "compensation": undo("a")}, {"name": "b", "needs": ["a"]})
    run_id = await here.start(workflow_id)
    await here.queue.end(await here.task_job("a"))
    await here.queue.end(await here.task_job("b"), FAILED)
    await here.queue.end(await here.task_job("a", undo=True), FAILED)
    await here.run_becomes(run_id, "STUCK")
    await here.runs.RetryWorkflowRun(runs.RetryWorkflowRunRequest(run_id=run_id), metadata=here.me)
    await here.queue.end(await here.task_job("a", undo=True, number=2))
    await here.run_becomes(run_id, "COMPENSATED")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await here.runs.RetryWorkflowRun(runs.RetryWorkflowRunRequest(run_id=run_id), metadata=here.me)
    assert reason(refused.value) == "WORKFLOW_RUN_NOT_STUCK"


async def test_a_run_that_is_called_off_calls_its_jobs_off(here: World) -> None:
    run_id = await here.start(await here.workflow({"name": "a"}, {"name": "b", "needs": ["a"]}))
    job_id = await here.task_job("a")
    await here.runs.CancelWorkflowRun(runs.CancelWorkflowRunRequest(run_id=run_id), metadata=here.me)

    async def told() -> bool:
        return job_id in here.queue.cancelled

    await until(told)
    await here.queue.end(job_id)
    run = await here.run_becomes(run_id, "COMPENSATED")
    assert run.failure == "CANCELLED"
    assert len(here.queue.taken) == 1


async def test_a_run_keeps_to_its_version(here: World) -> None:
    workflow_id = await here.workflow({"name": "a"}, {"name": "b", "needs": ["a"]})
    old = await here.start(workflow_id)
    update = pb.UpdateWorkflowRequest(workflow_id=workflow_id, settings=graph({"name": "only"}))
    answer = await here.workflows.UpdateWorkflow(update, metadata=here.me)
    again = await here.workflows.UpdateWorkflow(update, metadata=here.me)
    assert (answer.workflow.version, again.workflow.version) == (2, 2)
    new = await here.start(workflow_id)
    await here.queue.end(await here.task_job("a"))
    await here.task_job("b")
    await here.queue.end(await here.task_job("only"))
    await here.run_becomes(new, "SUCCEEDED")
    assert (await here.run(old)).version == 1


async def test_the_graph_shows_where_each_task_stands(here: World) -> None:
    run_id = await here.start(await here.workflow(*ORDER, inputs=INPUTS), sku="W-1", express=True)
    await here.queue.end(await here.task_job("reserve"), result=RESERVED)
    await here.task_job("charge")
    answer = await here.runs.GetWorkflowRunGraph(
        runs.GetWorkflowRunGraphRequest(run_id=run_id), metadata=here.me
    )
    nodes = {node.name: (node.level, node.state) for node in answer.nodes}
    assert nodes == {
        "reserve": (0, runs.TASK_STATE_SUCCEEDED),
        "charge": (1, runs.TASK_STATE_STARTED),
        "ship": (2, runs.TASK_STATE_PENDING),
    }
    assert [(getattr(edge, "from"), edge.to) for edge in answer.edges] == [
        ("reserve", "charge"),
        ("charge", "ship"),
    ]
    assert '"reserve" -> "charge" [label="ALL_SUCCEEDED"];' in answer.dot


async def test_a_schedule_starts_a_workflow_and_hears_how_it_ended(here: World) -> None:
    workflow_id = await here.workflow({"name": "a"})
    made = await here.create(
        workflow={"workflow_id": workflow_id}, overlap="OVERLAP_POLICY_QUEUE", queue_max=5
    )
    await here.trigger(made.schedule_id)
    await here.trigger(made.schedule_id)
    await here.has(made.schedule_id, "STARTED", "WAITING")
    await here.queue.end(await here.task_job("a"))
    await here.has(made.schedule_id, "SUCCEEDED", "STARTED")
    await here.queue.end(await here.task_job("a", number=2), FAILED)
    await here.has(made.schedule_id, "SUCCEEDED", "FAILED")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await here.workflows.DeleteWorkflow(
            pb.DeleteWorkflowRequest(workflow_id=workflow_id), metadata=here.me
        )
    assert reason(refused.value) == "WORKFLOW_IN_USE"


async def test_an_event_that_fits_starts_a_run_once(here: World) -> None:
    trigger = {
        "event_type": "weft.identity.v1.UserDeleted",
        "filter": 'event.user_id.startsWith("u-")',
        "inputs": {"user": "envelope.subject"},
    }
    await here.workflow({"name": "forget"}, inputs={"user": {}}, triggers=[trigger])
    await here.lab.announce(UserDeleted(user_id="x-9"))
    event_id = await here.lab.announce(UserDeleted(user_id="u-7"))
    await here.lab.announce(UserDeleted(user_id="u-7"), event_id)
    await here.task_job("forget")
    found = await here.runs.ListWorkflowRuns(
        runs.ListWorkflowRunsRequest(filter='cause:"event:*"'), metadata=here.me
    )
    assert [(run.cause, dict(run.input)) for run in found.runs] == [(f"event:{event_id}", {"user": "u-7"})]


@pytest.mark.parametrize(
    ("tasks", "rest", "problem"),
    [
        ([{"name": "a", "needs": ["b"]}, {"name": "b", "needs": ["a"]}], {}, "is a cycle"),
        ([{"name": "a", "needs": ["a"]}], {}, "is a cycle"),
        ([{"name": "a", "needs": ["b"]}], {}, "there is no task b"),
        ([{"name": "a"}, {"name": "a"}], {}, "stands twice"),
        ([{"name": "a", "inputs": {"x": "input.y"}}], {}, "there is no input y"),
        ([{"name": "a", "inputs": {"x": "tasks.b.output"}}, {"name": "b"}], {}, "does not come before"),
        ([{"name": "a", "condition": "1 + 1"}], {}, "a condition is true or false"),
        ([{"name": "a", "condition": "input.n > 'x'"}], {"inputs": {"n": {"type": 3}}}, "types"),
        ([{"name": "a", "when": "START_RULE_ANY_FAILED"}], {}, "needs tasks to wait for"),
        (
            [{"name": "a"}],
            {"triggers": [{"event_type": "weft.scheduler.v1.WorkflowChanged"}]},
            "start itself",
        ),
        ([{"name": "a"}], {"triggers": [{"event_type": "weft.identity.v1.Nonsense"}]}, "is no event"),
        (
            [
                {"name": "a", "outputs": {"n": "VALUE_TYPE_NUMBER"}},
                {"name": "b", "needs": ["a"], "inputs": {"x": "tasks.a.output.m"}},
            ],
            {},
            "has no output m",
        ),
    ],
)
async def test_graphs_that_cannot_run_are_refused(
    shared_world: World, tasks: list[dict[str, Any]], rest: dict[str, Any], problem: str
) -> None:
    request = pb.ValidateWorkflowRequest(settings=graph(*tasks, **rest))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await shared_world.workflows.ValidateWorkflow(request, metadata=shared_world.me)
    assert reason(refused.value) == "WORKFLOW_REFUSED"
    assert problem in (refused.value.details() or "")


@pytest.mark.parametrize(
    "text",
    ["1 +", "env.HOME", "input.matches('x')", "[1].map(a, [2].map(b, a))", "tasks.a.x", "-" * 999 + "1"],
)
async def test_expressions_that_are_none_or_may_take_long_are_refused(shared_world: World, text: str) -> None:
    tasks = ({"name": "a"}, {"name": "b", "needs": ["a"], "inputs": {"x": text}})
    request = pb.ValidateWorkflowRequest(settings=graph(*tasks))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await shared_world.workflows.ValidateWorkflow(request, metadata=shared_world.me)
    assert reason(refused.value) in ("EXPRESSION_REFUSED", "WORKFLOW_REFUSED")


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({}, "express is required"),
        ({"sku": 1, "express": True}, "no string"),
        ({"x": 1}, "there is no input x"),
    ],
)
async def test_input_of_another_shape_is_refused(
    shared_world: World, given: dict[str, Any], problem: str
) -> None:
    workflow_id = await shared_world.workflow(*ORDER, inputs=INPUTS)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await shared_world.start(workflow_id, **given)
    assert (reason(refused.value), problem in (refused.value.details() or "")) == ("INPUT_REFUSED", True)


async def test_twenty_who_start_one_run_at_once_start_one(shared_world: World) -> None:
    here, workflow_id = shared_world, await shared_world.workflow({"name": "twice"})
    shared_world.queue.forget()
    same = pb.CreateWorkflowRequest(workflow_id=str(uuid4()), settings=graph({"name": "same"}))
    request = runs.StartWorkflowRunRequest(run_id=str(uuid4()), workflow_id=workflow_id)
    await asyncio.gather(
        *(here.runs.StartWorkflowRun(request, metadata=here.me) for _ in range(20)),
        *(here.workflows.CreateWorkflow(same, metadata=here.me) for _ in range(20)),
    )
    await here.task_job("twice")
    assert len(here.queue.of_task("twice")) == 1
    request.workflow_id = await here.workflow({"name": "other"})
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await here.runs.StartWorkflowRun(request, metadata=here.me)
    assert reason(refused.value) == "RUN_ID_REUSED"
