"""The WAL archive: what PostgreSQL writes is copied as it is written, from the first backup on.

A line is one cluster's history without a gap: a folder with its WAL and the backups that begin in it. A
restored mesh begins a new one, as does an archive that was given up. A replication slot keeps what was not
copied yet, up to SLOT_KEEPS, so that an archive that is away costs a bounded part of the disk.
"""

import asyncio
import json
import os
import signal
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from launcher import paths, state
from launcher.child import Child, Program
from launcher.credentials import Credentials
from launcher.paths import Home
from launcher.ports import HOST
from launcher.postgres import SUPERUSER, Cluster
from launcher.problem import Problem

COMPONENT = "wal-archive"  # No service can be called so.
LOOK = "wal-archive.look"  # A request to the supervisor.
SLOT = "weft_archive"
SEGMENT_BYTES = 16 * 1024**2  # PostgreSQL's default, with which clusters are made here.
LAG_BYTES_MAX = 16 * SEGMENT_BYTES  # Said to be behind from here on; the slot keeps 16 times that.
GB_MAX, GB_VARIABLE = 20, "WEFT_ARCHIVE_GB_MAX"  # Of one line's WAL; what is more ends the archive, aloud.
STATUS_EVERY_S = "5"  # How often the receiver says how far it is.

MARK = "select pg_current_xact_id()"  # A commit: recovery can tell that nothing is missing before it.
NEW_SLOT = f"""
select pg_drop_replication_slot(slot_name) from pg_replication_slots
where slot_name = '{SLOT}' and not active;
select pg_create_physical_replication_slot('{SLOT}', true);
"""
SLOT_STATE = f"select wal_status from pg_replication_slots where slot_name = '{SLOT}'"
SLOT_IS_THERE = f"select exists (select from pg_replication_slots where slot_name = '{SLOT}')"
ACTIVE = f"select active from pg_replication_slots where slot_name = '{SLOT}'"
LAG = f"""
select pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint from pg_replication_slots
where slot_name = '{SLOT}'
"""


def stamp(moment: datetime | None = None) -> str:
    """`20261121T231000Z`: sorts by time, and is a folder's name."""
    return (moment or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")


@dataclass(frozen=True)
class Line:
    """One line's folder."""

    folder: Path

    @property
    def wal(self) -> Path:
        return self.folder / "wal"

    def bytes(self) -> int:
        """What its WAL takes."""
        return sum(_size(file) for file in self.wal.iterdir())

    def closed(self, gb_max: int) -> str:
        """Why nothing more is put here; empty when it may be."""
        if not self.wal.is_dir():
            return f"has stopped: {self.wal} is not there"
        if (here := self.bytes()) > gb_max * 1_000_000_000:
            return f"is full: {here / 1e9:.1f} GB, {GB_VARIABLE} is {gb_max}; see docs/backups.md"
        free = paths.free_bytes(self.wal)
        if free < paths.FREE_BYTES_MIN:
            return f"has stopped: {free // 1_000_000} MB are free on the disk of {self.folder}"
        return ""


def current(home: Home) -> Line | None:
    """The line that this data folder writes, if any."""
    try:
        folder = Path(json.loads(home.archive.read_text())["line"])
    except FileNotFoundError:
        return None
    return Line(folder)


def ensure(home: Home, cluster: Cluster, secret: Credentials, folder: Path) -> tuple[Line, bool]:
    """The line in `folder`, and whether it is new: there was none, it is elsewhere, or WAL of it is lost."""
    line, kept = current(home), cluster.query(SLOT_STATE, secret)
    if line and line.folder.parent == folder and line.wal.is_dir() and kept in {"reserved", "extended"}:
        return line, False
    home.archive.unlink(missing_ok=True)
    return _new(home, cluster, secret, folder), True


def _new(home: Home, cluster: Cluster, secret: Credentials, folder: Path) -> Line:
    """The slot first: from it on, WAL is kept until it is copied."""
    line = Line(folder / f"line-{stamp()}-{os.getpid()}")
    try:
        line.wal.mkdir(parents=True, mode=paths.PRIVATE)
        line.folder.chmod(paths.PRIVATE)
    except OSError as error:
        raise Problem(f"{folder}: {error.strerror}", "name another folder with --to") from error
    nudge(home)  # Lets go of the slot: the file that names the line is gone.
    for _ in range(100):
        why = cluster.run_sql(NEW_SLOT, secret)
        if not why:
            break
        time.sleep(0.1)
    else:
        raise Problem(f"the archive could not be begun: {why}", "see `scripts/weft logs postgres`")
    unfinished = home.archive.with_suffix(".new")
    unfinished.write_text(json.dumps({"line": str(line.folder)}))
    unfinished.replace(home.archive)
    nudge(home)
    return line


def nudge(home: Home) -> None:
    """Has the supervisor look at the archive: begin it, end it, or go on where it was full."""
    if seen := state.read(home):
        (home.requests / LOOK).write_text("")
        os.kill(seen.pid, signal.SIGUSR1)


class Keeper:
    """The supervisor's side: the receiver runs while there is a line, and within its bounds."""

    def __init__(self, home: Home, cluster: Cluster, secret: Credentials, seen: state.State) -> None:
        self._home, self._cluster, self._secret, self._seen = home, cluster, secret, seen
        self._gb_max = _gb_max()
        self._clustered = bool(seen.instances)
        self.shown = state.Component(COMPONENT, 0, phase=state.STOPPED)
        self._child: Child | None = None
        self._line: Line | None = None
        self._turn = asyncio.Lock()

    async def look(self) -> None:
        """Begins, ends or goes on; says what is wrong, and marks the moment."""
        async with self._turn:
            line = current(self._home)
            if line != self._line:
                await self._stop()
                self._line = line
                if line and self.shown not in self._seen.components:
                    self._seen.components.append(self.shown)
            closed = await asyncio.to_thread(self._closed, line) if line else ""
            if line is None or closed:
                await self._stop()
                self._say(closed)
            elif self._child is None:
                self._child = Child(self.shown, self._program(line), self._written)
                self._child.begin()
            elif self.shown.phase == state.READY:
                self._say(await asyncio.to_thread(self._behind))

    def move(self, cluster: Cluster) -> None:
        """Another PostgreSQL is the primary, which keeps nothing for this line."""
        self._cluster, self._line = cluster, None

    async def restart(self) -> None:
        """A new receiver."""
        async with self._turn:
            await self._stop()
        await self.look()

    async def end(self) -> None:
        """After PostgreSQL, which hands over the last of its WAL as it stops."""
        async with self._turn:
            await self._stop()

    async def mark(self) -> None:
        """A commit, if there is an archive: what came before it can be restored to any moment."""
        if self._line:
            await asyncio.to_thread(self._cluster.query, MARK, self._secret)

    async def _stop(self) -> None:
        child, self._child = self._child, None
        if child:
            await child.end()

    def _say(self, note: str) -> None:
        if note != self.shown.note:
            self.shown.note = note
            self._written()

    def _written(self) -> None:
        self._seen.write(self._home)

    def _closed(self, line: Line) -> str:
        """Why the receiver is of no use."""
        ready = self.shown.phase == state.READY
        if not ready and self._cluster.query(SLOT_STATE, self._secret) == "lost":
            return "has a gap: it was away for too long; `scripts/weft backup` begins a new one"
        if self._clustered and self._cluster.query(SLOT_IS_THERE, self._secret) == "f":
            return "ended when another PostgreSQL became the primary; `scripts/weft backup` begins a new one"
        return line.closed(self._gb_max)

    def _behind(self) -> str:
        """What is wrong although the receiver runs."""
        self._cluster.query(MARK, self._secret)
        lag = self._cluster.query(LAG, self._secret)
        return f"is {int(lag) // 1_000_000} MB behind" if lag.isdigit() and int(lag) > LAG_BYTES_MAX else ""

    def _program(self, line: Line) -> Program:
        where = ["-h", HOST, "-p", str(self._cluster.port), "-U", SUPERUSER, "--no-password"]
        how = ["-S", SLOT, "--no-loop", "-s", STATUS_EVERY_S]
        return Program(
            command=[str(self._cluster.programs / "pg_receivewal"), "-D", str(line.wal), *how, *where],
            log=self._home.log(COMPONENT),
            unready=lambda: "" if self._cluster.query(ACTIVE, self._secret) == "t" else "connects",
            environ={"PGPASSWORD": self._secret.postgres, "LC_ALL": "C.UTF-8"},
        )


def _size(file: Path) -> int:
    """0 when it is gone: the receiver renames what is whole, backups remove what is old."""
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def _gb_max() -> int:
    chosen = os.environ.get(GB_VARIABLE, str(GB_MAX))
    if not (chosen.isdigit() and int(chosen)):
        raise Problem(f"{GB_VARIABLE} must be a number of gigabytes", "correct it, or unset it")
    return int(chosen)
