"""`weft jobs top`: queues, workers and what runs, drawn anew every second."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc.aio
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from scripts.jobs import showing
from scripts.jobs.calling import Edge
from weft.queue.v1.stats_pb2 import GetStatsRequest, GetStatsResponse
from weft.worker.v1.worker_pb2 import ListPoolsRequest, ListWorkersRequest, Pool, Worker

EVERY_S = 1.0
MB = 1024 * 1024
COLUMNS = ["waiting", "high", "low", "oldest", "held", "later", "dead", "in/s", "done/s", "failed/s"]
COLUMNS += ["wait p95", "run p95"]
WIDE_ONLY = {"high", "low", "held", "in/s"}


async def show(edge: Edge, *, once: bool) -> None:
    """Until Ctrl-C; once, when asked to or when nobody looks."""
    if once or not showing.console.is_terminal:
        showing.console.print(await _drawn(edge, showing.console.height))
        return
    with Live(console=showing.console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(await _drawn(edge, showing.console.height), refresh=True)
            await asyncio.sleep(EVERY_S)


async def _drawn(edge: Edge, height: int) -> RenderableType:
    try:
        stats, workers, pools = await asyncio.gather(
            edge.call(edge.stats.GetStats, GetStatsRequest()),
            edge.call(edge.workers.ListWorkers, ListWorkersRequest()),
            edge.call(edge.workers.ListPools, ListPoolsRequest(page_size=200)),
        )
    except grpc.aio.AioRpcError as error:
        return Text(f"the mesh does not answer: {error.code().name} {error.details()}", style="red")
    parts: list[RenderableType] = [_head(stats, workers.workers), _queues(stats)]
    if pools.pools:
        parts.append(_pools(list(pools.pools)))
    parts.append(_workers(list(workers.workers)))
    used = 12 + len(stats.queues) + len(pools.pools) + len(workers.workers)
    parts.append(_running(list(workers.workers), max(5, height - used)))
    return Group(*parts)


def _head(stats: GetStatsResponse, workers: Any) -> Text:
    waiting = sum(_depth(queue) for queue in stats.queues)
    running = sum(worker.running for worker in workers)
    per_second = sum(worker.ended_per_second for worker in workers)
    at = time.strftime("%H:%M:%S")
    words = f"  {waiting:,} waiting   {running:,} running   {per_second:,.0f} jobs/s   {len(workers)} workers"
    return Text("weft jobs", style="bold") + Text(f" {at}", style="dim") + Text(words)


def _depth(queue: Any) -> int:
    return int(queue.waiting.high + queue.waiting.medium + queue.waiting.low)


def _table(title: str, left: list[str], right: list[str]) -> Table:
    table = Table(
        box=None, pad_edge=False, header_style="dim", title=title, title_justify="left", title_style="bold"
    )
    for name in left:
        table.add_column(name, no_wrap=True)
    for name in right:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _queues(stats: GetStatsResponse) -> Table:
    """On a narrow terminal what matters less is left out."""
    narrow = showing.console.width < showing.WIDTH_MIN
    rows = [_queue(queue) for queue in stats.queues]
    names = [name for name in COLUMNS if not (narrow and name in WIDE_ONLY)]
    table = _table("\nqueues", ["queue"], names)
    for name, cells in zip((queue.queue for queue in stats.queues), rows, strict=True):
        table.add_row(name, *(cells[column] for column in names))
    return table


def _queue(queue: Any) -> dict[str, str | Text]:
    """Cells by column."""
    return {
        "waiting": f"{_depth(queue):,}",
        "high": f"{queue.waiting.high:,}",
        "low": f"{queue.waiting.low:,}",
        "oldest": showing.span(showing.seconds(queue.oldest_age)) if queue.HasField("oldest_age") else "",
        "held": f"{queue.held:,}",
        "later": f"{queue.scheduled:,}",
        "dead": Text(f"{queue.dead_letters:,}", style="red" if queue.dead_letters else ""),
        "in/s": f"{queue.enqueue_rate:,.1f}",
        "done/s": f"{queue.success_rate:,.1f}",
        "failed/s": f"{queue.failure_rate:,.1f}",
        "wait p95": _p95(queue.wait),
        "run p95": _p95(queue.run),
    }


def _p95(times: Any) -> str:
    return showing.span(showing.seconds(times.p95)) if times.count else ""


def _pools(pools: list[Pool]) -> Table:
    table = _table("\npools", ["pool", "queues"], ["workers", "wanted", "running", "waiting"])
    for pool in pools:
        numbers = (pool.workers, pool.workers_wanted, pool.running, pool.depth)
        table.add_row(pool.pool, ",".join(pool.settings.queues), *(f"{number:,}" for number in numbers))
    return table


def _workers(workers: list[Worker]) -> Table:
    table = _table(
        "\nworkers", ["worker", "pool", "queues"], ["running", "held", "jobs/s", "ended", "MB", "age"]
    )
    for worker in workers:
        name = Text(worker.worker) + Text(" drains" if worker.draining else "", style="yellow")
        counts = (
            f"{worker.running:,}",
            f"{worker.held:,}",
            f"{worker.ended_per_second:,.0f}",
            f"{worker.ended:,}",
        )
        memory = f"{worker.memory_bytes / MB:,.0f}"
        table.add_row(
            name, worker.pool, ",".join(worker.queues), *counts, memory, showing.ago(worker.start_time)
        )
    return table


def _running(workers: list[Worker], rows_max: int) -> Table:
    """Those that run longest, as many as there is room for."""
    table = _table("\nrunning", ["job", "queue", "type"], ["attempt", "since"])
    table.add_column("progress")
    found = sorted(
        (job for worker in workers for job in worker.jobs), key=lambda job: showing.seconds(job.start_time)
    )
    for job in found[:rows_max]:
        drawn = showing.bar(job.progress.percent) if job.HasField("progress") else Text("")
        drawn += Text(f" {job.progress.message}", style="dim")
        table.add_row(job.job_id, job.queue, job.type, str(job.attempt), showing.ago(job.start_time), drawn)
    return table
