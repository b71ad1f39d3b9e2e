"""Jobs as a terminal shows them: states in colour, ages for people, bars that move."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from weft.jobs.v1.attempt_pb2 import LogLine
from weft.jobs.v1.job_pb2 import EndReason, JobState, Priority
from weft.jobs.v1.live_pb2 import Update
from weft.queue.v1.job_messages_pb2 import Job

COLOURS = {
    "SUCCEEDED": "green",
    "FAILED": "red",
    "CANCELLED": "yellow",
    "EXPIRED": "yellow",
    "RUNNING": "cyan",
    "RETRYING": "magenta",
}
FINAL = {
    JobState.JOB_STATE_SUCCEEDED,
    JobState.JOB_STATE_FAILED,
    JobState.JOB_STATE_CANCELLED,
    JobState.JOB_STATE_EXPIRED,
}
MESSAGE_CHARS_MAX = 80  # Of a failure, in a table.

WIDTH_MIN = 110  # Of a terminal on which every column has room.
WIDE = 200  # Where nobody looks nothing is cut off.

console = Console() if sys.stdout.isatty() else Console(width=WIDE)


def state(value: Any) -> Text:
    name = JobState.Name(value).removeprefix("JOB_STATE_")
    return Text(name, style=COLOURS.get(name, "dim"))


def reason(value: Any) -> str:
    return EndReason.Name(value).removeprefix("END_REASON_").lower().replace("_", " ") if value else ""


def priority(value: Any) -> str:
    return Priority.Name(value).removeprefix("PRIORITY_").lower().replace("unspecified", "medium")


def seconds(span: Duration | Timestamp) -> float:
    return span.ToNanoseconds() / 1e9


def span(length_s: float) -> str:
    """`350 ms`, `4.2 s`, `3 min`, `5 h`, `2 d`."""
    for most, divisor, unit in ((1, 0.001, "ms"), (120, 1, "s"), (7_200, 60, "min"), (172_800, 3_600, "h")):
        if length_s < most:
            return f"{length_s / divisor:.{1 if unit == 's' and length_s < 10 else 0}f} {unit}"
    return f"{length_s / 86_400:.0f} d"


def ago(at: Timestamp) -> str:
    return span(max(0.0, time.time() - seconds(at)))


def bar(percent: float, width: int = 16) -> Text:
    """A bar of text, for a cell of a table."""
    full = round(width * percent / 100)
    return (
        Text("━" * full, style="cyan") + Text("─" * (width - full), style="dim") + Text(f" {percent:3.0f}%")
    )


def jobs(found: list[Job]) -> Table:
    """A line for each."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("job", min_width=36, no_wrap=True)  # To be copied.
    for name in ("queue", "type"):
        table.add_column(name, no_wrap=True)
    table.add_column("state", min_width=9, no_wrap=True)
    for name in ("try", "age", "took"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("what", no_wrap=console.width > WIDTH_MIN)
    for job in found:
        envelope = job.envelope
        took = span(seconds(job.end_time) - seconds(job.start_time)) if job.HasField("end_time") else ""
        attempt = f"{job.run}.{job.attempt}" if job.run > 1 else str(job.attempt or "")
        cells = (envelope.job_id, envelope.queue, envelope.type, state(job.state), attempt)
        table.add_row(
            *cells, ago(envelope.create_time), took if job.HasField("start_time") else "", _what(job)
        )
    return table


def _what(job: Job) -> Text:
    if job.state == JobState.JOB_STATE_RUNNING and job.HasField("progress"):
        return bar(job.progress.percent) + Text(f" {job.progress.message}", style="dim")
    if job.HasField("failure"):
        words = f"{reason(job.reason)}: {job.failure.kind} {job.failure.message}"
        return Text(words[:MESSAGE_CHARS_MAX].replace("\n", " "), style="dim")
    return Text(reason(job.reason) if job.state != JobState.JOB_STATE_SUCCEEDED else "", style="dim")


def result(job: Job) -> str:
    """What the handler returned, as people read it."""
    if not job.HasField("result"):
        return ""
    data = job.result.data
    if job.result.content_type == "application/json":
        return json.dumps(json.loads(data), ensure_ascii=False)
    return data.decode() if data.isascii() else f"{len(data)} bytes of {job.result.content_type or 'data'}"


def line(update: Update) -> Text:
    """One thing that happened, in a line."""
    at = time.strftime("%H:%M:%S", time.localtime(update.time.seconds))
    head = Text(f"{at} ", style="dim") + Text(f"{update.job_id[-12:]} {update.type} ")
    match update.WhichOneof("what"):
        case "state":
            return head + state(update.state.state) + Text(f" {_told(update)}", style="dim")
        case "progress":
            return head + bar(update.progress.percent) + Text(f" {update.progress.message}", style="dim")
        case _:
            return head + log(update.log)


def _told(update: Update) -> str:
    told = update.state
    words = [f"attempt {update.attempt}"]
    if told.reason and told.state != JobState.JOB_STATE_SUCCEEDED:
        words.append(reason(told.reason))
    if told.HasField("failure"):
        words.append(f"{told.failure.kind} {told.failure.message}".replace("\n", " "))
    if told.HasField("next_time"):
        words.append(f"again in {span(max(0.0, seconds(told.next_time) - time.time()))}")
    return ", ".join(words)


def log(told: LogLine) -> Text:
    style = {"WARNING": "yellow", "ERROR": "red"}.get(told.level, "")
    facts = " ".join(f"{name}={value}" for name, value in sorted(told.facts.items()))
    return Text(told.message, style=style) + Text(f" {facts}" if facts else "", style="dim")


def progress() -> Progress:
    """Bars for jobs that run."""
    return Progress(
        SpinnerColumn(),
        TextColumn("[bold]{task.fields[type]}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[state]}"),
        TextColumn("[dim]{task.description}"),
        console=console,
    )
