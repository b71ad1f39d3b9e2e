"""The process that has the handlers' modules loaded and forks a cell for each attempt.

    python -m services.worker.cells.forker SOCKET PARENT MODULE...

It has one thread and runs no handler itself, so a fork is safe and costs about a millisecond. Whatever a cell
leaves behind becomes its child (PR_SET_CHILD_SUBREAPER) and is ended. When the worker dies, it dies, and with
it the cells.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import selectors
import signal
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from services.chassis.jobs.handlers import Registry
from services.worker.cells import cell
from services.worker.cells.frames import CONTROL_BYTES_MAX, Ended, Kill, Start, control, read_control

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
LOOK_EVERY_S = 0.05  # While cells run, their processes are counted this often.
DESCRIPTORS = 2  # That come with a Start: the cell's channel and its output.


@dataclass(slots=True)
class _Cell:
    number: int
    pid: int
    processes_max: int
    crowded: bool = False


class Forker:
    """Cells by the pid of their first process."""

    def __init__(self, worker: socket.socket, registry: Registry) -> None:
        self._worker, self._registry = worker, registry
        self._cells: dict[int, _Cell] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(worker, selectors.EVENT_READ)
        self._woken = _wake_on_child(self._selector)

    def run(self) -> None:
        """Until the worker is gone."""
        while True:
            for key, _ in self._selector.select(LOOK_EVERY_S if self._cells else None):
                if key.fileobj is not self._worker:
                    os.read(self._woken, 4096)
                elif not self._told():
                    return
            self._reap()
            for one in list(self._cells.values()):
                self._count(one)

    def _told(self) -> bool:
        """Does as the worker says; False when it is gone."""
        data, descriptors, _, _ = socket.recv_fds(self._worker, CONTROL_BYTES_MAX, DESCRIPTORS)
        if not data:
            return False
        match read_control(data):
            case Start() as start:
                self._fork(start, descriptors)
            case Kill() as kill:
                self._kill(kill)
        return True

    def _fork(self, start: Start, descriptors: list[int]) -> None:
        own = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._worker.close()
            self._selector.close()
            cell.live(self._registry, start.limits, own, *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        self._cells[pid] = _Cell(start.number, pid, start.limits.processes)

    def _kill(self, kill: Kill) -> None:
        for one in self._cells.values():
            if one.number == kill.number:
                _signal(one.pid, kill.signal)
                if kill.signal == signal.SIGKILL:
                    _signal_group(one.pid)

    def _reap(self) -> None:
        """Takes in what has ended; tells of cells when nothing is left below them."""
        for pid, status, used in _ended():
            one = self._cells.pop(pid, None)
            if one is None:
                continue
            _signal_group(pid)
            self._sweep()
            code = os.waitstatus_to_exitcode(status)
            told = Ended(one.number, code, used.ru_utime + used.ru_stime, one.crowded)
            with contextlib.suppress(OSError):  # The worker is gone; so are we, at the next turn.
                self._worker.send(control(told))

    def _sweep(self) -> None:
        """Ends what cells left behind: no cell's first process, yet a child of ours."""
        while strays := [pid for pid in _children(os.getpid()) if pid not in self._cells]:
            for pid in strays:
                _signal(pid, signal.SIGKILL)
            for pid in strays:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, 0)

    def _count(self, one: _Cell) -> None:
        """Ends a cell that has too many processes. A fork in a group that is killed does not happen."""
        if len(_below(one.pid, one.processes_max + 1)) > one.processes_max:
            one.crowded = True
            _signal_group(one.pid)
            for pid in _below(one.pid, sys.maxsize):
                _signal(pid, signal.SIGKILL)
            _signal(one.pid, signal.SIGKILL)


def _wake_on_child(selector: selectors.BaseSelector) -> int:
    """A descriptor that can be read when a child has ended."""
    read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda number, where: None)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    selector.register(read, selectors.EVENT_READ)
    return read


def _ended() -> Iterator[tuple[int, int, os.struct_rusage]]:  # type: ignore[name-defined]
    while True:
        try:
            pid, status, used = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        yield pid, status, used


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _below(pid: int, enough: int) -> list[int]:
    """Pids of all descendants; stops looking when there are `enough`."""
    found: list[int] = []
    waiting = [pid]
    while waiting and len(found) < enough:
        children = _children(waiting.pop())
        found += children
        waiting += children
    return found


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _signal_group(pid: int) -> None:
    """All of a cell that have not left its group, at once."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def leash(parent: int, number: int = signal.SIGKILL) -> None:
    """This process gets a signal when its parent dies."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:  # It died before the leash was on.
        os._exit(1)


def main(arguments: list[str]) -> None:
    leash(int(arguments[1]))
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the worker's: it drains.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    worker = socket.socket(fileno=int(arguments[0]))
    registry = Registry.of(arguments[2:])
    gc.freeze()  # A collection would touch, and so copy, all pages that cells share.
    worker.send(control(Ended(0, 0, 0.0, False)))  # Ready.
    Forker(worker, registry).run()


if __name__ == "__main__":
    main(sys.argv[1:])
