"""The machine: what it is, on which cores a process runs, and who used the processor during a run."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from types import TracebackType

import psutil

PACKAGES = ("grpcio", "protobuf", "asyncpg", "sqlalchemy", "fastapi", "uvicorn", "uvloop", "argon2-cffi")
QUIET_CORES_MAX = 0.1  # What others may use before a run is called disturbed.

Cores = str  # As taskset takes them: `0`, `0,1`.
ALL: Cores = ",".join(map(str, sorted(os.sched_getaffinity(0))))


def described() -> dict[str, str]:
    """Processor, cores, kernel, versions."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "?")
    return {
        "processor": f"{os.cpu_count()} cores of {model}",
        "kernel": platform.release(),
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
    }


def pin(pids: Iterable[int], cores: Cores) -> None:
    """Puts all threads of these processes and of their descendants on `cores`."""
    for pid in {each for root in pids for each in tree(root)}:
        subprocess.run(["taskset", "-a", "-c", "-p", cores, str(pid)], capture_output=True, check=False)


class Meter:
    """Processor seconds of groups of processes, of the load, and of strangers, over a block."""

    def __init__(self, roots: Mapping[str, int]) -> None:
        """`roots`: each is counted with all its descendants. Children of this process are the load."""
        self._roots = dict(roots)
        self.seconds: dict[str, float] = {}
        self.wall = self.load = self.strangers = 0.0

    def __enter__(self) -> Meter:
        self._began = time.perf_counter()
        self._busy, self._own, self._used = _busy(), _own(), self._read()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        self.wall = time.perf_counter() - self._began
        self.seconds = {name: used - self._used[name] for name, used in self._read().items()}
        self.load = _own() - self._own
        strange = _busy() - self._busy - self.load - sum(self.seconds.values())
        self.strangers = max(0.0, strange) / self.wall  # Cores, on the average.

    def _read(self) -> dict[str, float]:
        return {name: sum(map(_used, tree(pid))) for name, pid in self._roots.items()}


def tree(pid: int) -> list[int]:
    """A process and all its descendants."""
    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]


def _used(pid: int) -> float:
    """With what its ended children used: connections of PostgreSQL come and go."""
    with suppress(psutil.NoSuchProcess):
        times = psutil.Process(pid).cpu_times()
        return float(times.user + times.system + times.children_user + times.children_system)
    return 0.0


def _own() -> float:
    """This process and its children that have ended."""
    both = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in both)


def _busy() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq)
