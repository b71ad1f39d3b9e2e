"""What only Weft is asked: order by key, size, limits, two cores, takeovers, many jobs."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles

import asyncpg
import psutil

from bench import machine
from bench.jobs import brokers
from bench.jobs.systems import SYSTEMS, Run
from bench.machine import Cores
from bench.mesh import HOST, Mesh
from bench.peers.jobs.marks import PATH, Marks
from bench.report import Report

MANY = int(os.environ.get("WEFT_BENCH_MANY", "1000000"))  # Jobs in the record, and jobs that wait.
READS = 2_000
HELD = 200  # Jobs that a killed worker has.
LARGE_SHARE = 20  # So many fewer of the large ones: they would fill the disk.
GONE_S = 5.0

# A day's jobs, half of a minute apart by a thousandth each; one of a hundred has failed.
RECORD = r"""
with ids as (
    select n, (lpad(to_hex($1::bigint + n / 100), 12, '0') || '7' || lpad(to_hex(n % 100), 3, '0') || '8'
        || lpad(to_hex(n), 15, '0'))::uuid as job_id
    from generate_series($2::bigint, $3::bigint) as n
), jobs as (
    insert into job (job_id, queue, type, priority, key, labels, sequence, routed_by, envelope)
    select job_id, 'record', 'bench.noop', 2, '', '{}', n, '', '\x0a24'::bytea || job_id::text::bytea || $4
    from ids
)
insert into job_final (job_id, run, state, reason, queue, type, attempt, worker, start_at, end_at)
select job_id, 1, case when n % 100 = 0 then 7 else 6 end, 1, 'record', 'bench.noop', 1, 'w', now(), now()
from ids
"""
CHUNK = 50_000


@dataclass(frozen=True)
class Case:
    """Jobs of one shape."""

    name: str
    environ: Mapping[str, str] = field(default_factory=dict)
    share: int = 1  # One of so many of the usual number.
    cores: Cores | None = None  # None: as all.
    verb: str = "enqueue"


CASES = (
    Case("straight into JetStream"),
    Case("the same, two cores", cores=machine.ALL),
    Case("by key, 10,000 keys (FIFO)", {"WEFT_BENCH_KEYS": "10000"}),
    Case("1 KB", {"WEFT_BENCH_PADDING": "1000"}),
    Case("100 KB", {"WEFT_BENCH_PADDING": "100000"}, LARGE_SHARE),
    Case("8 at once in the queue", {"WEFT_BENCH_AT_ONCE": "8"}),
    Case("by rpc", share=4, verb="rpc"),
    Case("by rpc, ten callers for each unique key", share=4, verb="unique"),
    Case("by rpc, 10,000 a call", verb="recorded"),
)


def report(to: Report, found: Mesh, count: int, cores: Cores) -> None:
    """Adds what is found to the report."""
    rows: list[list[object]] = []
    for n, case in enumerate(CASES):
        done = _case(found, case, f"bench-{n}", count // case.share, case.cores or cores)
        rows.append([case.name, *done])
    to.table(["Weft alone", "jobs", "enqueue/s", "drain/s"], rows)
    takeovers = [
        [name, *_takeover(found, name, keys, cores)] for name, keys in (("plain", 0), ("FIFO", HELD))
    ]
    to.table([f"{HELD} jobs of a worker that was killed, with another after", "p50 ms", "last ms"], takeovers)
    to.table([f"beside {MANY:,} jobs", "p50 ms", "p99 ms"], _reads(found, cores))


def _run(found: Mesh, queue: str, environ: Mapping[str, str], path: Path, cores: Cores) -> Run:
    own = {**brokers.inside(found), "WEFT_BENCH_QUEUE": queue, PATH: str(path), **environ}
    return Run(SYSTEMS[0], Path(sys.executable), cores, own)


def _case(found: Mesh, case: Case, queue: str, count: int, cores: Cores) -> list[object]:
    machine.pin(found.pids.values(), cores)
    with tempfile.TemporaryDirectory(prefix="weft-bench-") as folder:
        path = Path(folder) / "marks"
        run = _run(found, queue, case.environ, path, cores)
        with run.at(""):
            marks = Marks(path, count)
            rate = count / run.fed(case.verb, count)
            if case.verb == "unique":  # One of ten callers has made a job, so most are missing for ever.
                return [count, rate, ""]
            return [count, rate, count / run.drained(marks)]


def _takeover(found: Mesh, name: str, keys: int, cores: Cores) -> list[object]:
    """Times from the death of a worker to the begin of its jobs elsewhere."""
    with tempfile.TemporaryDirectory(prefix="weft-bench-") as folder:
        path = Path(folder) / "marks"
        own = {"WEFT_BENCH_KEYS": str(keys), "WEFT_BENCH_SLOTS": str(HELD)}
        run = _run(found, f"bench-over-{name.lower()}", own, path, cores)
        with run.at(""):
            marks = Marks(path, HELD)
            with run.worker() as first:
                run.fed("hold", HELD)
                run.until(lambda: marks.missing == 0)
                with run.worker():
                    time.sleep(GONE_S)  # It starts, and would take its share of the lanes: it gets none.
                    marks.clear()
                    killed_at = time.monotonic()
                    for pid in reversed(machine.tree(first.pid)):
                        with suppress(psutil.NoSuchProcess):
                            psutil.Process(pid).kill()
                    run.until(lambda: marks.missing == 0)
            after = sorted((at - killed_at) * 1000 for at in marks.starts())
    return [after[len(after) // 2], after[-1]]


def _reads(found: Mesh, cores: Cores) -> list[list[object]]:
    """Of a record of many jobs, then with as many that wait besides; straight at the queue's own door."""
    door = {"WEFT_MESH_ADDRESS": f"{HOST}:{found.doors['queue']}"}
    with tempfile.TemporaryDirectory(prefix="weft-bench-") as folder:
        path = Path(folder) / "marks"
        run = _run(found, "record", door, path, cores)
        deep = _run(found, "deep", door, path, cores)
        rows: list[list[object]] = []
        with run.at(""), deep.at(""):
            asyncio.run(_filled(found.database("queue", superuser=True)))
            rows += _times("have ended", run.read(READS))
            marks = Marks(path, MANY)
            deep.fed("bulk", MANY)
            rows += _times("have ended, as many wait", run.read(READS))
            rows += _times("wait", deep.read(READS))
            with deep.worker():
                deep.until(lambda: marks.missing < MANY)
                began, left = time.monotonic(), marks.missing
                deep.until(lambda: marks.missing < max(0, left - MANY // 20))
                rate = (left - marks.missing) / (time.monotonic() - began)
        rows.append([f"drained from them: {rate:,.0f}/s", "", ""])
        return rows


def _times(name: str, times: Mapping[str, list[float]]) -> list[list[object]]:
    made: list[list[object]] = []
    for what, each in times.items():
        cuts = quantiles(each, n=100)
        made.append([f"{what} ({name})", cuts[49], cuts[98]])
    return made


async def _filled(url: str) -> None:
    """The record has that many jobs of today, of a queue that was made before."""
    connection = await asyncpg.connect(url)
    try:
        if await connection.fetchval("select exists(select from job where queue = 'record')"):
            return
        midnight = int(time.time() // 86_400 * 86_400 * 1000)
        for first in range(0, MANY, CHUNK):
            last = min(first + CHUNK, MANY) - 1
            await connection.execute(RECORD, midnight, first, last, b"\x32\x0abench.noop")
        await connection.execute("analyze")
    finally:
        await connection.close()
