"""Workers of the demonstration: processes that may be killed."""

from __future__ import annotations

import secrets
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
def workers(count: int, folder: Path) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """That many, by name; their logs go into `folder`."""
    names = [f"demo-{secrets.token_hex(3)}" for _ in range(count)]
    started = {name: _start(name, folder / f"{name}.log") for name in names}
    try:
        yield started
    finally:
        for process in started.values():
            process.terminate()
        for process in started.values():
            process.wait(STOP_S)


def _start(name: str, log: Path) -> subprocess.Popen[bytes]:
    words = ["-m", "services.worker", "scripts.sales.handlers", "--queue", QUEUE, "--threads", str(THREADS)]
    with log.open("wb") as file:
        return subprocess.Popen([sys.executable, *words, "--name", name], cwd=ROOT, stdout=file, stderr=file)
