"""`python -m services.worker MODULE...` runs jobs with the handlers of those modules."""

import asyncio
import gc
import logging
import signal
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace

import uvloop

from services.chassis.config import BadSetting, Settings, load
from services.chassis.health import Readiness
from services.chassis.jobs.handlers import BadHandler
from services.chassis.jobs.surroundings import surrounding
from services.chassis.probes import probing
from services.chassis.telemetry import log_to_stderr
from services.worker.beating import new_id
from services.worker.cells.forker import leash
from services.worker.lines import BindToJob
from services.worker.process import Plan, working
from services.worker.runner import Room
from services.worker.settings import WorkerSettings

SERVICE = "worker"

log = logging.getLogger("weft.worker")


def parser() -> ArgumentParser:
    room = Room()
    words = ArgumentParser(prog="weft worker", description="Runs jobs in the foreground.")
    words.add_argument("modules", nargs="+", metavar="MODULE", help="with handlers; all below it count, too")
    words.add_argument("--queue", action="append", metavar="NAME", help="whose jobs (default: default)")
    words.add_argument("--slots", type=int, default=room.slots, metavar="N", help="coroutines (default 64)")
    words.add_argument("--threads", type=int, default=room.threads, metavar="N", help="for plain functions")
    words.add_argument("--processes", type=int, default=room.processes, metavar="N", help="for limited jobs")
    words.add_argument(
        "--limit", action="append", default=[], type=_limit, metavar="TYPE=N", help="at once of a type"
    )
    words.add_argument("--pool", default="", help="the pool that it belongs to")
    words.add_argument("--name", default="", help="its id (default: of host, process and chance)")
    words.add_argument("--leash", type=int, metavar="PID", help="end when this process dies, our parent")
    return words


def _limit(text: str) -> tuple[str, int]:
    name, _, number = text.rpartition("=")
    if not name or not number.isdigit() or int(number) < 1:
        raise ArgumentTypeError(f"{text!r} is not TYPE=N with N above 0")
    return name, int(number)


def plan(arguments: Namespace, settings: WorkerSettings) -> Plan:
    return Plan(
        modules=arguments.modules,
        queues=arguments.queue or ["default"],
        room=Room(arguments.slots, arguments.threads, arguments.processes),
        pool=arguments.pool,
        worker=arguments.name or new_id(),
        limits=dict(arguments.limit),
        drain_s=settings.drain_s,
        beat_s=settings.beat_s,
    )


async def main(planned: Plan, settings: Settings) -> None:
    """Until SIGTERM or SIGINT; what runs is then given `drain_s`."""
    readiness = Readiness()
    async with (
        probing(settings.metrics_address, readiness) as metrics,
        surrounding(settings, SERVICE) as around,
    ):
        async with working(planned, around) as worker:
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, worker.stop)
            gc.freeze()  # What is loaded by now lives as long as the process.
            facts = {"worker": planned.worker, "queues": list(planned.queues), "metrics": metrics}
            log.info("at work", extra={"facts": facts})
            await worker.stopping.wait()
            log.info("draining", extra={"facts": {"worker": planned.worker}})
        log.info("ended", extra={"facts": {"worker": planned.worker}})


def run(arguments: list[str]) -> int:
    words = parser().parse_args(arguments)
    if words.leash:
        leash(words.leash, signal.SIGTERM)
    try:
        settings, own = load(Settings), load(WorkerSettings, prefix="WEFT_WORKER_")
        log_to_stderr(settings.log_level)
        for handler in logging.getLogger().handlers:
            handler.addFilter(BindToJob())
        uvloop.run(main(plan(words, own), settings))
    except (BadSetting, BadHandler, ImportError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
