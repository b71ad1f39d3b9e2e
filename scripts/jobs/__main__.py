"""The words after `scripts/weft jobs`."""

from __future__ import annotations

import asyncio
import json
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Awaitable, Callable
from datetime import timedelta

import grpc.aio

from scripts.jobs import following, showing, top
from scripts.jobs.calling import Edge, NotSignedIn, edge
from weft.jobs.v1.job_pb2 import JobState, Payload, Priority
from weft.queue.v1.job_messages_pb2 import (
    CancelJobRequest,
    EnqueueJobRequest,
    GetJobRequest,
    Job,
    ListJobsRequest,
    RetryJobRequest,
    WatchJobsRequest,
)
from weft.queue.v1.spec_pb2 import JobSpec

STATES = [name.removeprefix("JOB_STATE_").lower() for name in JobState.keys()[1:]]
PRIORITIES = [name.removeprefix("PRIORITY_").lower() for name in Priority.keys()[1:]]


def parser() -> ArgumentParser:
    whole = ArgumentParser(prog="weft jobs", description="Jobs from the terminal.")
    words = whole.add_subparsers(dest="command", metavar="COMMAND", required=True)
    one = words.add_parser("run", help="enqueue a job, and follow it until it has ended")
    one.add_argument("type")
    one.add_argument("payload", nargs="?", type=_json, help="JSON, as the handler's type has it")
    one.add_argument("--queue", default="")
    one.add_argument("--priority", choices=PRIORITIES, default="medium")
    one.add_argument("--key", default="")
    one.add_argument("--label", action="append", default=[], type=_label, metavar="NAME=VALUE")
    one.add_argument("--delay", type=float, default=0.0, metavar="SECONDS")
    one.add_argument("--no-wait", action="store_true", help="print its id, and no more")
    listed = words.add_parser("list", help="jobs, newest first")
    listed.add_argument("--queue", default="")
    listed.add_argument("--type", default="")
    listed.add_argument("--state", action="append", choices=STATES, default=[])
    listed.add_argument("--label", action="append", default=[], metavar="NAME=VALUE")
    listed.add_argument("-n", type=int, default=20, metavar="N", help="at most (default 20)")
    watched = words.add_parser("watch", help="what happens to jobs, live")
    watched.add_argument("job", nargs="?", help="one job, until it has ended; else all that fit")
    watched.add_argument("--queue", default="")
    watched.add_argument("--type", default="")
    for name, sentence in (("retry", "run jobs again that ended badly"), ("cancel", "call jobs off")):
        words.add_parser(name, help=sentence).add_argument("jobs", nargs="+", metavar="JOB")
    words.add_parser("top", help="queues, workers and what runs").add_argument("--once", action="store_true")
    return whole


def _json(text: str) -> bytes:
    try:
        json.loads(text)
    except ValueError as error:
        raise ArgumentTypeError(f"is not JSON: {error}") from None
    return text.encode()


def _label(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not (name and sign):
        raise ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


async def run(edge: Edge, words: Namespace) -> int:
    """0 only if it succeeded."""
    spec = JobSpec(
        type=words.type,
        queue=words.queue,
        priority=Priority.Value(f"PRIORITY_{words.priority.upper()}"),
        key=words.key,
        labels=dict(words.label),
    )
    if words.payload is not None:
        spec.payload.CopyFrom(Payload(data=words.payload, content_type="application/json"))
    if words.delay:
        spec.delay.FromTimedelta(timedelta(seconds=words.delay))
    job: Job = (await edge.call(edge.jobs.EnqueueJob, EnqueueJobRequest(job=spec))).job
    if words.no_wait:
        showing.console.print(job.envelope.job_id)
        return 0
    showing.console.print(f"[dim]{job.envelope.job_id} in {job.envelope.queue}[/]")
    return _told(await following.until_ended(edge, job.envelope.job_id))


def _told(job: Job) -> int:
    """Says how it ended."""
    if job.state == JobState.JOB_STATE_SUCCEEDED:
        if words := showing.result(job):
            showing.console.print(words, soft_wrap=True, markup=False)
        return 0
    showing.console.print(showing.state(job.state), showing.reason(job.reason))
    if job.HasField("failure"):
        showing.console.print(f"{job.failure.kind}: {job.failure.message}", markup=False)
        showing.console.print(job.failure.trace, style="dim", markup=False)
    return 1


async def list_(edge: Edge, words: Namespace) -> int:
    request = ListJobsRequest(
        page_size=min(200, words.n),
        queue=words.queue,
        type=words.type,
        states=[JobState.Value(f"JOB_STATE_{name.upper()}") for name in words.state],
        labels=words.label,
    )
    found: list[Job] = []
    while len(found) < words.n:
        page = await edge.call(edge.jobs.ListJobs, request)
        found += page.jobs
        request.page_token = page.next_page_token
        if not page.next_page_token:
            break
    showing.console.print(showing.jobs(found[: words.n]) if found else "[dim]no such job[/]")
    return 0


async def watch(edge: Edge, words: Namespace) -> int:
    if words.job:
        await edge.call(edge.jobs.GetJob, GetJobRequest(job_id=words.job))
        return _told(await following.until_ended(edge, words.job))
    await following.lines(edge, WatchJobsRequest(queue=words.queue, type=words.type))
    return 0


async def retry(edge: Edge, words: Namespace) -> int:
    return await _each(edge, words.jobs, edge.jobs.RetryJob, lambda job_id: RetryJobRequest(job_id=job_id))


async def cancel(edge: Edge, words: Namespace) -> int:
    return await _each(edge, words.jobs, edge.jobs.CancelJob, lambda job_id: CancelJobRequest(job_id=job_id))


async def _each(edge: Edge, ids: list[str], method: object, request: Callable[[str], object]) -> int:
    """1 if one of them was refused; the others are done all the same."""
    refused = 0
    for job_id in ids:
        try:
            job = (await edge.call(method, request(job_id))).job
        except grpc.aio.AioRpcError as error:
            refused = 1
            showing.console.print(f"{job_id} [red]{error.code().name}[/] {error.details()}")
        else:
            showing.console.print(job_id, showing.state(job.state))
    return refused


async def top_(edge: Edge, words: Namespace) -> int:
    await top.show(edge, once=words.once)
    return 0


COMMANDS: dict[str, Callable[[Edge, Namespace], Awaitable[int]]] = {
    "run": run,
    "list": list_,
    "watch": watch,
    "retry": retry,
    "cancel": cancel,
    "top": top_,
}


async def main(words: Namespace) -> int:
    async with edge() as client:
        try:
            return await COMMANDS[words.command](client, words)
        except grpc.aio.AioRpcError as error:
            showing.console.print(f"[red]{error.code().name}[/] {error.details()}")
        except NotSignedIn as error:
            showing.console.print(f"[red]{error}[/]")
        return 1


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main(parser().parse_args())))
    except KeyboardInterrupt:
        sys.exit(130)
