"""One job or many, followed as they go: a bar for one, lines for many."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from rich.progress import Progress, TaskID

from scripts.jobs import showing
from scripts.jobs.calling import Edge
from weft.jobs.v1.job_pb2 import JobState
from weft.jobs.v1.live_pb2 import Update
from weft.queue.v1.job_messages_pb2 import GetJobRequest, Job, WatchJobsRequest

LOOK_EVERY_S = 0.5  # The record is asked besides: what is live may be missed.


async def until_ended(edge: Edge, job_id: str) -> Job:
    """Shows a bar and what the job logs until it has ended."""
    with showing.progress() as bars:
        task = bars.add_task("", total=100, type="…", state="")
        watching = asyncio.create_task(_follow(edge, job_id, bars, task))
        try:
            while True:
                job: Job = (await edge.call(edge.jobs.GetJob, GetJobRequest(job_id=job_id))).job
                bars.update(task, type=job.envelope.type, state=showing.state(job.state).markup)
                if job.HasField("progress"):
                    bars.update(task, completed=job.progress.percent, description=job.progress.message)
                if job.state in showing.FINAL:
                    if job.state == JobState.JOB_STATE_SUCCEEDED:
                        bars.update(task, completed=100, description="")
                    return job
                await asyncio.sleep(LOOK_EVERY_S)
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching


async def _follow(edge: Edge, job_id: str, bars: Progress, task: TaskID) -> None:
    async for update in updates(edge, WatchJobsRequest(job_id=job_id)):
        told: Any = update.progress if update.WhichOneof("what") == "progress" else update.state.progress
        if told.percent:
            bars.update(task, completed=told.percent, description=told.message)
        if update.WhichOneof("what") == "log":
            bars.console.print(showing.line(update))


async def updates(edge: Edge, request: WatchJobsRequest) -> AsyncIterator[Update]:
    """What happens, until the caller has enough. Raises AioRpcError."""
    async for answer in edge.stream(edge.jobs.WatchJobs, request):
        if answer.WhichOneof("item") == "update":
            yield answer.update
        elif answer.WhichOneof("item") == "missed":
            showing.console.print("[yellow]some of what happened was missed[/]")


async def lines(edge: Edge, request: WatchJobsRequest) -> None:
    """A line for each thing that happens, for ever."""
    async for update in updates(edge, request):
        showing.console.print(showing.line(update))
