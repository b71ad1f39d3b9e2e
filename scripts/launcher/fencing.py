"""Makes sure that nothing of a PostgreSQL server runs any more: every process that works in its folder.

A postmaster that was killed leaves processes behind for moments, and one of them might still commit; so the
postmaster's end alone is not enough before another server takes its place.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from launcher.problem import Problem

PROGRAM = "postgres"
FENCE_S_MAX = 10.0  # A process that a kill does not end by then hangs in the kernel.
POLL_S = 0.01


def fence(data: Path) -> int:
    """Kills what works in `data` until there is nothing. Returns how many processes that were.

    Raises Problem when one does not end: then no other server may take its place.
    """
    killed: set[int] = set()
    ends = time.monotonic() + FENCE_S_MAX
    while found := list(_working_in(data)):
        for pid in found:
            if _kill(pid, data):
                killed.add(pid)
        if time.monotonic() > ends:
            raise Problem(
                f"process {found[0]} of {data} does not end, so no other PostgreSQL may take its place",
                "look at what it waits for (a disk?), end it, and the mesh goes on by itself",
            )
        time.sleep(POLL_S)
    return len(killed)


def _working_in(data: Path) -> Iterator[int]:
    for name in os.listdir("/proc"):
        if name.isdigit() and _works_in(int(name), data):
            yield int(name)


def _works_in(pid: int, data: Path) -> bool:
    """Whether this process is PostgreSQL's, with that folder for its own; PostgreSQL never leaves it."""
    try:
        program, folder = os.readlink(f"/proc/{pid}/exe"), os.readlink(f"/proc/{pid}/cwd")
    except OSError:  # It has ended, or is another account's.
        return False
    return os.path.basename(program).split(" ")[0] == PROGRAM and folder == str(data.resolve())


def _kill(pid: int, data: Path) -> bool:
    """By a handle, so that it is never a stranger that got the number meanwhile."""
    try:
        with _handle(pid) as handle:
            if not _works_in(pid, data):
                return False
            signal.pidfd_send_signal(handle, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


@contextmanager
def _handle(pid: int) -> Iterator[int]:
    handle = os.pidfd_open(pid)
    try:
        yield handle
    finally:
        os.close(handle)
