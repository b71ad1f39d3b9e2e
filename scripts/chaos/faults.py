"""What is done to the mesh's parts. Each fault notes what it is about to do, so that anybody can undo it."""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from launcher import links, undoing
from scripts.chaos.mesh import Mesh
from scripts.chaos.scenario import Step


class Fault:
    """One step of a scenario: `begin`, then `again` many times while it lasts, then `end`."""

    def __init__(self, mesh: Mesh, step: Step) -> None:
        self.mesh, self.step = mesh, step

    def begin(self) -> str:
        """Returns what was done, for the report."""
        return ""

    def again(self) -> None:
        """For what must be done to newcomers too."""

    def end(self) -> None:
        """Undoes it. Called once, whatever has happened."""


class Kill(Fault):
    """kill -9. The supervisor starts it again."""

    def begin(self) -> str:
        process = self.mesh.part(self.step.target)
        if process is None:
            return "was dead already"
        os.kill(process[0], signal.SIGKILL)
        return f"pid {process[0]}"


class Pause(Fault):
    """SIGSTOP to a part and all below it: it neither answers nor closes its connections."""

    def begin(self) -> str:
        process = self.mesh.part(self.step.target)
        self._stopped = undoing.family(process[0]) if process else []
        undoing.note(self.mesh.home, "paused", processes=self._stopped)
        for pid, began in self._stopped:
            if undoing.began_at(pid) == began:
                os.kill(pid, signal.SIGSTOP)
        return f"{len(self._stopped)} processes"

    def end(self) -> None:
        for pid, began in self._stopped:
            if undoing.began_at(pid) == began:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)


class Fill(Fault):
    """No file may be written any more (RLIMIT_FSIZE): each write fails, with EFBIG in place of ENOSPC."""

    def begin(self) -> str:
        self._seen: set[undoing.Process] = set()
        self.again()
        return f"{len(self._seen)} processes"

    def again(self) -> None:
        """Also those that were started since: a disk that is full is so for them as well."""
        process = self.mesh.part(self.step.target)
        family = undoing.family(process[0]) if process else []
        if new := [each for each in family if each not in self._seen]:
            undoing.note(self.mesh.home, "limited", processes=new)
            self._seen.update(new)
            undoing.limit([pid for pid, _ in new])

    def end(self) -> None:
        undoing.lift(self._seen)


class Linked(Fault):
    """What the forwarder does to links. It ends by itself, and before that by the file's end."""

    def begin(self) -> str:
        names = self.mesh.links(self.step)
        told = {"links": names, "until": time.monotonic() + self.step.lasts, **self.step.numbers}
        if self.step.fault == "partition":
            told["cut"] = True
        self._told = told
        self._write([*self._others(), told])
        return ", ".join(names) if len(names) <= 4 else f"{len(names)} links"

    def end(self) -> None:
        self._write(self._others())

    def _others(self) -> list[Any]:
        try:
            told = json.loads(links.faults(self.mesh.home).read_text())["faults"]
        except OSError:
            return []
        return [each for each in told if each != self._told and each["until"] > time.monotonic()]

    def _write(self, faults: list[Any]) -> None:
        file = links.faults(self.mesh.home)
        if not faults:
            file.unlink(missing_ok=True)
            return
        undoing.note(self.mesh.home, "file", path=str(file))
        _replace(file, json.dumps({"faults": faults}))


class Skew(Fault):
    """The time of day is another for one process of services; what it measures by is not."""

    def begin(self) -> str:
        process = self.mesh.process(self.step.target) or self.step.target
        self._file = links.clock(self.mesh.home, process)
        undoing.note(self.mesh.home, "file", path=str(self._file))
        _replace(self._file, f"{self.step.numbers['offset_s']} {time.monotonic() + self.step.lasts}\n")
        return process

    def end(self) -> None:
        self._file.unlink(missing_ok=True)


def _replace(file: Path, text: str) -> None:
    """Nobody reads half of it."""
    unfinished = file.with_suffix(".new")
    unfinished.write_text(text)
    unfinished.replace(file)


KINDS: dict[str, type[Fault]] = {
    "kill": Kill,
    "pause": Pause,
    "fill": Fill,
    "partition": Linked,
    "delay": Linked,
    "loss": Linked,
    "skew": Skew,
    "burst": Fault,  # The timetable has it.
}
