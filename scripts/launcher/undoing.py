"""What faults did to a mesh, written down before it is done and undone by whoever is left.

    python -m launcher.undoing    (with WEFT_HOME; its input is held open by who does it)

Who does faults (`weft chaos run`) holds a lock and has this program beside it, in a session of its own. When
its input ends, of whatever death, it undoes what is still noted. Should it die as well, the next `weft chaos`
or `weft up` does. Undoing twice does no harm: a process is known by its pid and the moment it began.
"""

import fcntl
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from launcher.paths import Home

PARENT, BEGAN = 1, 19  # Places in /proc/PID/stat behind the name.

LIMIT = 'for pid do prlimit --pid "$pid" --fsize="$0:"; done'  # Of util-linux.

Process = tuple[int, int]  # Its pid, and when it began in the kernel's ticks: together nobody else's.


def journal(home: Home) -> Path:
    return home.path / "run" / "chaos.jsonl"


def note(home: Home, kind: str, **values: Any) -> None:
    """Before it is done: `paused` and `limited` with processes, `file` with its path."""
    with journal(home).open("a") as file:
        file.write(json.dumps({"kind": kind, **values}) + "\n")


@contextmanager
def alone(home: Home) -> Iterator[bool]:
    """Whether nobody else does faults to this mesh now; then nobody else can while the block runs."""
    path = home.path / "run" / "chaos.lock"
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def undo(home: Home) -> int:
    """Everything that is noted. Returns how much that was. Only who is alone may."""
    try:
        lines = journal(home).read_text().splitlines()
    except OSError:
        return 0
    for line in lines:
        with suppress(ValueError):  # A line that was cut short: its fault was not done yet.
            _one(json.loads(line))
    journal(home).unlink(missing_ok=True)
    return len(lines)


def undo_if_left(home: Home) -> int:
    """As `undo`, unless somebody is at it."""
    if not journal(home).exists():
        return 0
    with alone(home) as mine:
        return undo(home) if mine else 0


def _one(noted: dict[str, Any]) -> None:
    if noted["kind"] == "file":
        Path(noted["path"]).unlink(missing_ok=True)
        return
    if noted["kind"] == "limited":
        with suppress(PermissionError):
            lift((pid, began) for pid, began in noted["processes"])
        return
    for pid, began in noted["processes"]:
        if began_at(pid) == began:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def lift(processes: Iterable[Process]) -> None:
    """Lets processes, and those that they have started since, write files again: as much as they ever may."""
    there = [pid for pid, began in processes if began_at(pid) == began]
    limit(sorted({each for pid in there for each, _ in family(pid)}), lifted=True)


def limit(pids: Sequence[int], *, lifted: bool = False) -> None:
    """No file may be written by these any more; or, lifted, as it ever may. Raises PermissionError.

    Root that may not do this to another account's processes (a container's) does it as that account, by
    the system's own program: that account may not reach ours.
    """
    theirs: dict[tuple[int, int], list[int]] = {}
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            who = os.stat(f"/proc/{pid}")
            try:
                _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard if lifted else 0, hard))
            except PermissionError:
                if os.geteuid() or not who.st_uid:
                    raise
                theirs.setdefault((who.st_uid, who.st_gid), []).append(pid)
    wanted = "unlimited" if lifted else "0"
    for (uid, gid), those in theirs.items():
        words = ["sh", "-c", LIMIT, wanted, *(str(pid) for pid in those)]
        done = subprocess.run(words, user=uid, group=gid, extra_groups=[], check=False, capture_output=True)
        if left := [pid for pid in those if limited(pid) not in (wanted, "")]:
            why = done.stderr.decode(errors="replace").strip() or f"ended with {done.returncode}"
            raise PermissionError(f"`prlimit` as uid {uid} did nothing to pid {left[0]}: {why}")


def limited(pid: int) -> str:
    """The limit of a file's size for a process, as /proc says it; empty when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    except OSError:
        return ""
    return next((line.split()[3] for line in lines if line.startswith("Max file size")), "")


def parent_of(pid: int) -> int | None:
    found = _stat(pid)
    return int(found[PARENT]) if found else None


def began_at(pid: int) -> int | None:
    """When a process began, None when it is no more."""
    found = _stat(pid)
    return int(found[BEGAN]) if found and found[0] != "Z" else None


def family(pid: int) -> list[Process]:
    """A process and all below it, itself first."""
    began = {each: values for each in _pids() if (values := _stat(each))}
    found = [pid] if pid in began else []
    for each in found:
        found += [child for child, values in began.items() if int(values[PARENT]) == each]
    return [(each, int(began[each][BEGAN])) for each in found]


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _stat(pid: int) -> list[str]:
    """What /proc says of a process behind its name, which may hold anything; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


if __name__ == "__main__":
    sys.stdin.read()
    undo_if_left(Home.of())
