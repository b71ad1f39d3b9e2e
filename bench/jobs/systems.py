"""Each system's name, its server, and how a run of it is done: enqueue, bulk, drain, latency."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles

import psutil

from bench import machine
from bench.h2load import LoadFailed
from bench.jobs import brokers
from bench.machine import Cores
from bench.mesh import ROOT, Mesh
from bench.peers.jobs.marks import PATH, Marks

sys.path.append(str(ROOT / "scripts"))
from launcher.environment import PEERS, Environment

Broker = Callable[[Mesh, Cores], AbstractContextManager[str]]
STEP_S_MAX = 240.0  # rq takes a minute for 20,000 jobs; more is a system that hangs.
POLL_S = 0.02
PACED_S = 10.0


@dataclass(frozen=True)
class System:
    """A peer on one of its servers."""

    name: str
    module: str
    broker: Broker
    setup: bool = False
    ours: bool = (
        False  # In this environment; timed until all is recorded and acknowledged, not until the last start.
    )


@dataclass(frozen=True)
class Result:
    """What was measured; None where a system has no such verb."""

    enqueue: float  # Jobs a second, one by one.
    bulk: float | None
    drain: float
    p50: float  # Milliseconds from sending to starting.
    p95: float
    p99: float
    worker_mb: float


def _own(broker: Callable[[Cores], AbstractContextManager[str]]) -> Broker:
    return lambda found, cores: broker(cores)


SYSTEMS = (
    System("Weft", "weft_", lambda found, cores: brokers.mesh(found), setup=True, ours=True),
    System("pgqueuer", "pgqueuer_", lambda found, cores: brokers.postgres(found), setup=True),
    System("procrastinate", "procrastinate_", lambda found, cores: brokers.postgres(found), setup=True),
    System("taskiq, NATS", "taskiq_", _own(brokers.nats)),
    System("taskiq, Redis", "taskiq_", _own(brokers.redis)),
    System("celery, RabbitMQ", "celery_", _own(brokers.rabbitmq)),
    System("celery, Redis", "celery_", _own(brokers.redis)),
    System("dramatiq, RabbitMQ", "dramatiq_", _own(brokers.rabbitmq)),
    System("dramatiq, Redis", "dramatiq_", _own(brokers.redis)),
    System("arq", "arq_", _own(brokers.redis)),
    System("saq", "saq_", _own(brokers.redis)),
    System("streaq", "streaq_", _own(brokers.redis)),
    System("rq", "rq_", _own(brokers.redis)),
)


def environment() -> Environment:
    """The peers' own virtual environment, made from its lock."""
    peers = Environment(ROOT / ".weft" / "bench-peers", ROOT / "requirements")
    peers.ensure(PEERS)
    return peers


def measure(system: System, found: Mesh, python: Path, count: int, cores: Cores) -> Result:
    """Every verb once, each on an empty server. Raises LoadFailed, brokers.Missing."""
    with tempfile.TemporaryDirectory(prefix="weft-bench-") as folder:
        path = Path(folder) / "marks"
        marks = Marks(path, count)
        environ = {PATH: str(path), **(brokers.inside(found) if system.ours else {})}
        run = Run(system, Path(sys.executable) if system.ours else python, cores, environ)
        with system.broker(found, cores) as url, run.at(url):
            enqueue = count / run.fed("enqueue", count)
            drain = count / run.drained(marks)
            marks.clear()
            took = run.fed("bulk", count)
            bulk = count / took if took else None
        with system.broker(found, cores) as url, run.at(url):
            return Result(enqueue, bulk, drain, *run.paced(int(PACED_S * 100), path.with_name("paced")))


class Run:
    """One system's processes."""

    def __init__(self, system: System, python: Path, cores: Cores, environ: Mapping[str, str]) -> None:
        self._system, self._python, self._cores = system, python, cores
        self._environ = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'gen'}", **environ}

    @contextmanager
    def at(self, url: str) -> Iterator[None]:
        """Its server's address goes by the environment: it may hold a password."""
        self._environ["WEFT_BENCH_BROKER_URL"] = url
        if self._system.setup:
            self._do("setup")
        yield

    def read(self, count: int) -> dict[str, list[float]]:
        """Times in ms, rising, of each kind of read."""
        times: dict[str, list[float]] = json.loads(self._do("read", str(count)))
        return times

    def fed(self, verb: str, count: int) -> float:
        """Seconds that it took; 0 when the system has no such verb."""
        return float(json.loads(self._do(verb, str(count)).splitlines()[-1]) or 0)

    def drained(self, marks: Marks) -> float:
        """Seconds from the first job's start to the last's; of ours, until there is nothing left to do."""
        settling = self._started("settle") if self._system.ours else None
        with self.worker():
            self.until(lambda: marks.missing == 0)
            if settling is None:
                return marks.seconds()
            said, _ = settling.communicate(timeout=STEP_S_MAX)
            return float(said) - marks.began()

    def paced(self, count: int, path: Path) -> tuple[float, float, float, float]:
        """p50, p95, p99 in ms, and the worker's memory in MB."""
        self._environ[PATH] = str(path)
        marks = Marks(path, count)
        with self.worker() as worker:
            self._do("enqueue", "1")  # A worker that is still starting would be measured as one that is late.
            self.until(lambda: marks.missing < count)
            marks.clear()
            self._do("pace", str(count))
            self.until(lambda: marks.missing == 0)
            memory = sum(psutil.Process(pid).memory_info().rss for pid in machine.tree(worker.pid))
        cuts = quantiles(marks.latencies_ms(), n=100)
        return cuts[49], cuts[94], cuts[98], memory / 1e6

    def _command(self, *words: str) -> list[str]:
        module = f"bench.peers.jobs.{self._system.module}"
        return ["taskset", "-c", self._cores, str(self._python), "-m", module, *words]

    def _started(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self._command(*words), cwd=ROOT, env=self._environ, stdout=subprocess.PIPE, text=True
        )

    def _do(self, *words: str) -> str:
        done = subprocess.run(
            self._command(*words),
            cwd=ROOT,
            env=self._environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=STEP_S_MAX,
        )
        if done.returncode:
            raise LoadFailed(f"{self._system.name}, {words[0]}: {done.stderr[-600:]}")
        return done.stdout

    @contextmanager
    def worker(self) -> Iterator[subprocess.Popen[bytes]]:
        process = subprocess.Popen(
            self._command("work"), cwd=ROOT, env=self._environ, stdout=subprocess.DEVNULL
        )
        try:
            yield process
        finally:
            for pid in reversed(machine.tree(process.pid)):
                psutil.Process(pid).kill()
            process.wait()

    def until(self, done: Callable[[], bool]) -> None:
        ends = time.monotonic() + STEP_S_MAX
        while not done():
            if time.monotonic() > ends:
                raise LoadFailed(f"{self._system.name}: jobs are left after {STEP_S_MAX:g} s")
            time.sleep(POLL_S)
