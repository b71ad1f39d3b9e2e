"""`scripts/weft demo import [FILE...]`: files of sales as jobs, a worker killed meanwhile, exact totals.

Without files: those of the outside data beside the repository, where it is there. What the jobs counted is
compared with the published totals, if they lie beside the files, and else with a count in one go.
"""

from __future__ import annotations

import asyncio
import csv
import json
import os
import sys
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path
from subprocess import Popen

import grpc.aio
from rich.progress import Progress, TaskID

from scripts.jobs import showing
from scripts.jobs.calling import Edge, NotSignedIn, edge
from scripts.sales.handlers import QUEUE, TYPE, SalesFile
from scripts.sales.totals import BadRow, Tally, Totals, rows
from scripts.sales.workers import ROOT, workers
from weft.jobs.v1.job_pb2 import JobState, Payload
from weft.queue.v1.job_messages_pb2 import EnqueueBatchRequest, GetJobRequest, Job
from weft.queue.v1.queue_pb2 import CreateQueueRequest
from weft.queue.v1.spec_pb2 import JobSpec

OUTSIDE = "01_retail_uci"
EXPECTED = "expected_totals_by_month.csv"
WORKERS, PAUSE_S = 2, 0.15
KILL_AT = 35.0  # Percent of all.
LOOK_S = 0.2


class WentWrong(Exception):
    """What the demonstration could not do, in a sentence."""


def parser() -> ArgumentParser:
    words = ArgumentParser(prog="weft demo import", description="Imports sales as jobs; a worker dies.")
    words.add_argument("files", nargs="*", type=Path, metavar="FILE", help="CSV, also as .gz")
    words.add_argument("--no-kill", action="store_true", help="let the workers live")
    return words


def outside() -> list[Path]:
    """The files of the outside data. Raises WentWrong."""
    folder = Path(os.environ.get("WEFT_SHARED_DATA") or ROOT.parent / "shared" / "data") / OUTSIDE
    if found := sorted(folder.glob("*.csv.gz")):
        return found
    raise WentWrong("name a CSV file with the columns InvoiceNo, StockCode, Quantity, UnitPrice, CustomerID")


def counted(path: Path) -> Totals:
    """In one go. Raises WentWrong."""
    tally = Tally()
    try:
        for row in rows(path):
            tally.add(row)
    except (BadRow, OSError) as error:
        raise WentWrong(f"{path.name}: {error}") from error
    return tally.totals()


async def enqueue(client: Edge, files: Mapping[Path, Totals]) -> dict[str, Path]:
    """A job for each file; all at once."""
    await client.call(client.queues.CreateQueue, CreateQueueRequest(queue=QUEUE))
    payloads = [SalesFile(str(path.absolute()), totals.rows, PAUSE_S) for path, totals in files.items()]
    specs = [
        JobSpec(
            type=TYPE,
            queue=QUEUE,
            payload=Payload(data=json.dumps(asdict(payload)).encode(), content_type="application/json"),
        )
        for payload in payloads
    ]
    answer = await client.call(client.jobs.EnqueueBatch, EnqueueBatchRequest(jobs=specs))
    return dict(zip(answer.job_ids, files, strict=True))


async def follow(client: Edge, jobs: Mapping[str, Path], victims: Mapping[str, Popen[bytes]]) -> list[Job]:
    """Shows a bar for each until all have ended; on the way kills a worker that has one, of `victims`."""
    with showing.progress() as bars:
        tasks = {each: bars.add_task("", total=100, type=path.name, state="") for each, path in jobs.items()}
        while True:
            found = [(await client.call(client.jobs.GetJob, GetJobRequest(job_id=each))).job for each in jobs]
            percent = sum(_shown(bars, tasks[job.envelope.job_id], job) for job in found) / len(found)
            if all(job.state in showing.FINAL for job in found):
                return found
            at_work = [job.worker for job in found if job.state == JobState.JOB_STATE_RUNNING]
            if percent >= KILL_AT and (victim := next(filter(None, map(victims.get, at_work)), None)):
                victim.kill()
                bars.console.print(f"[red]kill -9[/] worker process {victim.pid}, at {percent:.0f} % of all")
                victims = {}
            await asyncio.sleep(LOOK_S)


def _shown(bars: Progress, task: TaskID, job: Job) -> float:
    done = 100.0 if job.state == JobState.JOB_STATE_SUCCEEDED else job.progress.percent
    words = job.progress.message if done < 100 else ""
    bars.update(task, completed=done, description=words, state=showing.state(job.state).markup)
    return done


def compare(found: Sequence[Job], jobs: Mapping[str, Path], expected: Mapping[Path, Totals]) -> int:
    """How many files were imported wrongly; tells of each."""
    wrong = 0
    for job in found:
        path = jobs[job.envelope.job_id]
        if job.state != JobState.JOB_STATE_SUCCEEDED:
            showing.console.print(f"[red]{path.name}[/]", showing.state(job.state), job.failure.message)
            wrong += 1
            continue
        got = Totals(**json.loads(job.result.data))
        right = same(got, expected[path])
        wrong += not right
        mark = "[green]exact[/]" if right else f"[red]expected {expected[path]}[/]"
        again = f"; went on at row {got.began_at:,} where its worker had died" if got.began_at else ""
        showing.console.print(f"{path.name}: {got.rows:,} rows, net {got.net} {mark}{again}")
    return wrong


def same(got: Totals, expected: Totals) -> bool:
    """All but where it began."""
    left, right = asdict(got), asdict(expected)
    left["net"], right["net"] = Decimal(got.net), Decimal(expected.net)
    return {**left, "began_at": 0} == {**right, "began_at": 0}


def published(files: Sequence[Path]) -> dict[Path, Totals]:
    """Totals that lie beside the files, by month; counted where they do not."""
    known: dict[Path, Totals] = {}
    for path in files:
        table = path.with_name(EXPECTED)
        lines = list(csv.DictReader(table.open(encoding="utf-8"))) if table.exists() else []
        for line in lines:
            if path.name.startswith(line.pop("month")):
                net = line.pop("net_gbp")
                known[path] = Totals(net=net, **{name: int(value) for name, value in line.items()})
    return {path: known.get(path) or counted(path) for path in files}


async def main(words: Namespace) -> int:
    files = words.files or outside()
    expected = published(files)
    total = sum(totals.rows for totals in expected.values())
    showing.console.print(f"{len(files)} files, {total:,} rows; {WORKERS} workers")
    with tempfile.TemporaryDirectory(prefix="weft-demo-") as folder:
        async with edge() as client:
            jobs = await enqueue(client, expected)
            with workers(WORKERS, Path(folder)) as started:
                found = await follow(client, jobs, {} if words.no_kill else started)
    wrong = compare(found, jobs, expected)
    verdict = f"[red]{wrong} files are wrong[/]" if wrong else "[green]all totals are exact[/]"
    showing.console.print(verdict)
    return 1 if wrong else 0


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main(parser().parse_args())))
    except (WentWrong, NotSignedIn, grpc.aio.AioRpcError) as error:
        showing.console.print(f"[red]stopped:[/] {error}")
        sys.exit(1)
