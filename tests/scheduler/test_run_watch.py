"""Runs of workflows are watched live: each change once, in order, and from any place on."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest

from services.chassis.testing import reason
from tests.scheduler.world import FAILED, World
from weft.scheduler.v1 import workflow_run_pb2 as pb

Told = pb.WatchWorkflowRunsResponse
WHOLE = ["RUNNING", "pack STARTED", "pack SUCCEEDED", "send STARTED", "send FAILED", "COMPENSATED"]


@asynccontextmanager
async def watching(here: World, **request: str) -> AsyncIterator[AsyncIterator[Told]]:
    """From now on: the stream is open."""
    call = here.runs.WatchWorkflowRuns(pb.WatchWorkflowRunsRequest(**request), metadata=here.me)
    try:
        await call.initial_metadata()
        yield aiter(call)
    finally:
        call.cancel()


def said(answer: Told) -> str:
    update = answer.update
    if update.task:
        return f"{update.task} {pb.TaskState.Name(update.task_state).removeprefix('TASK_STATE_')}"
    return pb.WorkflowRunState.Name(update.state).removeprefix("WORKFLOW_RUN_STATE_")


async def several(stream: AsyncIterator[Told], count: int) -> list[Told]:
    """The next changes, without signs of life."""
    found: list[Told] = []
    while len(found) < count:
        answer = await anext(stream)
        if answer.WhichOneof("item") == "update":
            found.append(answer)
    return found


async def test_a_run_is_told_of_as_it_goes_on_and_again_from_any_place(shared_world: World) -> None:
    here = shared_world
    workflow_id = await here.workflow({"name": "pack"}, {"name": "send", "needs": ["pack"]})
    async with watching(here, workflow_id=workflow_id) as stream:
        await here.start(await here.workflow({"name": "silent"}))
        run_id = await here.start(workflow_id)
        places = await several(stream, 2)
        async with watching(here, run_id=run_id) as late:
            known = (await anext(late)).run
            assert {task.name: task.state for task in known.tasks} == {
                "pack": pb.TASK_STATE_STARTED,
                "send": pb.TASK_STATE_PENDING,
            }
            await here.queue.end(await here.task_job("pack"))
            await here.queue.end(await here.task_job("send"), FAILED)
            places += await several(stream, 4)
            assert [said(each) for each in places] == WHOLE
            assert [said(each) for each in await several(late, 4)] == WHOLE[2:]
    assert {each.update.run_id for each in places} == {run_id}
    for n, place in enumerate(places[:-1], 1):
        async with watching(here, run_id=run_id, resume_token=place.resume_token) as again:
            assert [said(each) for each in await several(again, len(WHOLE) - n)] == WHOLE[n:]


async def test_a_watch_of_nothing_and_a_token_of_nobodys_are_refused(shared_world: World) -> None:
    for request, why in (
        ({"run_id": "00000000-0000-4000-8000-000000000000"}, "UNKNOWN_WORKFLOW_RUN"),
        ({"resume_token": "999999999999"}, "RESUME_TOKEN_REFUSED"),
    ):
        call = shared_world.runs.WatchWorkflowRuns(
            pb.WatchWorkflowRunsRequest(**request), metadata=shared_world.me
        )
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await anext(aiter(call))
        assert reason(refused.value) == why
