"""Workers of the demonstration: processes that may be killed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.sales.handlers import QUEUE

ROOT = Path(__file__).parents[2]
THREADS = 2  # Files at once in each.
STOP_S = 20.0


@contextmanager
def workers(count: int, folder: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """That many; their logs go into `folder`."""
    started = [_start(folder / f"worker-{number}.log") for number in range(1, count + 1)]
    try:
        yield started
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait(STOP_S)


def _start(log: Path) -> subprocess.Popen[bytes]:
    words = ["-m", "services.worker", "scripts.sales.handlers", "--queue", QUEUE, "--threads", str(THREADS)]
    with log.open("wb") as file:
        return subprocess.Popen([sys.executable, *words], cwd=ROOT, stdout=file, stderr=file)
