"""Handlers that behave well, and one for each way not to."""

import asyncio
import logging
import os
import signal
import sys
import time
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.timestamp_pb2 import Timestamp

from services.chassis.jobs.context import BlockingJob, Job
from services.chassis.jobs.errors import Fail, Retry
from services.chassis.jobs.handlers import job
from services.chassis.jobs.limits import MIB, Limits
from services.worker.performing import current_run
from weft.jobs.v1.attempt_pb2 import LogLine


@dataclass
class Order:
    number: int
    words: str = ""


@dataclass
class Place:
    row: int


began: list[str] = []  # Of this process.
limit = Limits(cpu_s=1, memory_bytes=64 * MIB, open_files=16, output_bytes=64 * 1024, processes=4)


@job("nothing")
async def nothing(job: Job) -> None:
    began.append(str(job.id))


@job("echo")
async def echo(job: Job, order: Order) -> Order:
    return Order(order.number + 1, f"{order.words} {job.attempt}".strip())


@job("stamp")
async def stamp(job: Job, at: Timestamp) -> bytes:
    return str(at.seconds).encode()


@job("wait")
async def wait(job: Job, order: Order) -> None:
    began.append(str(job.id))
    job.progress(10, "waits")
    await asyncio.sleep(order.number)


@job("one", concurrency=1)
async def one(job: Job) -> None:
    await asyncio.sleep(0.01)


@job("stubborn")
async def stubborn(job: Job) -> None:
    for _ in range(2):
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            continue


@job("raise")
async def raise_(job: Job, order: Order) -> None:
    match order.words:
        case "retry":
            raise Retry("not yet", after_s=order.number)
        case "fail":
            raise Fail("CARD_EXPIRED", "the card has expired")
        case "exit":
            sys.exit(order.number)
        case "cancel":
            raise asyncio.CancelledError
    raise ValueError(order.words)


@job("say")
async def say(job: Job) -> None:
    job.log.info("once", extra={"facts": {"number": 1}})
    logging.getLogger("some.library").warning("twice")


@job("thread")
def thread(job: BlockingJob, order: Order) -> Order:
    job.checkpoint(Place(order.number))
    job.progress(50, "half")
    return Order(order.number * 2)


@job("thread.loop")
def thread_loop(job: BlockingJob) -> None:
    while True:
        pass


@job("thread.sleep")
def thread_sleep(job: BlockingJob) -> bytes:
    while not job.cancelled:
        time.sleep(0.01)
    return b"saw it"


@job("process", process=True)
def process(job: BlockingJob, order: Order) -> Order:
    print("printed")  # noqa: T201
    job.log.info("logged")
    job.progress(50, "half")
    before = job.restored(Place)
    job.checkpoint(Place(order.number))
    return Order(os.getpid(), str(before.row if before else ""))


@job("misbehave", limits=limit)
def misbehave(job: BlockingJob, order: Order) -> None:
    HOW[order.words](order.number)


def loop(number: int) -> None:
    while True:
        pass


def eat(number: int) -> None:
    hoard = [bytearray(MIB) for _ in range(number)]
    raise AssertionError(len(hoard))


def open_many(number: int) -> None:
    hoard = [os.open(os.devnull, os.O_RDONLY) for _ in range(number)]
    raise AssertionError(len(hoard))


def flood(number: int) -> None:
    while True:
        os.write(1, b"x" * 1000 + b"\n")


def bomb(number: int) -> None:
    while True:
        os.fork()


def orphan(number: int) -> None:
    """A daemon: in a session of its own, its parent gone, and deaf to being asked."""
    read, write = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            os.write(write, str(os.getpid()).encode())
            time.sleep(60)
        os._exit(0)
    raise Fail("ORPHAN", os.read(read, 20).decode())


HOW = {
    "exit": sys.exit,
    "_exit": os._exit,
    "segv": lambda number: os.kill(os.getpid(), signal.SIGSEGV),
    "raise": lambda number: [][number],
    "sleep": time.sleep,
    "loop": loop,
    "eat": eat,
    "open": open_many,
    "flood": flood,
    "bomb": bomb,
    "orphan": orphan,
}


@job("isolated")
async def isolated(job: Job, order: Order) -> None:
    """Harmless for its worker only in a process of its own."""
    await asyncio.sleep(0)
    os._exit(order.number)


@job("steps")
async def steps(job: Job, order: Order) -> bytes:
    """One step an attempt."""
    before = job.restored(Order) or Order(0)
    place = Order(before.number + 1, f"{before.words} {job.attempt}".strip())
    await job.checkpoint(place)
    if place.number < order.number:
        raise Retry
    return place.words.encode()


@job("told")
async def told(job: Job) -> None:
    await asyncio.sleep(0.1)
    job.progress(50, "half")
    await asyncio.sleep(0.1)
    current_run.get().line(LogLine(level="INFO", message="a line"))  # type: ignore[union-attr]
    await asyncio.sleep(0.1)


@job("import")
async def import_(job: Job, order: Order) -> None:
    """Rows one after the other, each with a checkpoint; `order.words` names the file that tells of them."""
    place = job.restored(Place) or Place(0)
    for row in range(place.row, order.number):
        note(Path(order.words), f"{row}:{os.getpid()}")
        await job.checkpoint(Place(row + 1))
        job.progress(100 * (row + 1) / order.number, f"row {row}")
        await asyncio.sleep(0.05)


@job("gated")
async def gated(job: Job, order: Order) -> None:
    gate = Path(order.words)
    note(gate.with_suffix(".begun"), str(os.getpid()))
    while not gate.exists():  # noqa: ASYNC110, ASYNC240 - a file of a test
        await asyncio.sleep(0.02)


def note(file: Path, line: str) -> None:
    with file.open("a") as text:
        text.write(f"{line}\n")


@job("one.of.many")
async def one_of_many(job: Job) -> None:
    await asyncio.sleep(0.01)


before: ContextVar[str] = ContextVar("before", default="nothing")


@job("context")
async def context(job: Job) -> bytes:
    """What an earlier job in this slot left."""
    found = before.get()
    before.set("something")
    await asyncio.sleep(0)
    return found.encode()
