"""`weft backup`: a base backup of the running cluster, its secrets and certificates; what is too old goes.

It is made beside its place and renamed when it is whole, so that no kill leaves one that only looks so.
"""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from launcher import archive, leash, manifest, paths, postgres, roster, state, wal
from launcher.archive import Line
from launcher.credentials import Credentials
from launcher.manifest import FORMAT, NEW, Backup, Manifest
from launcher.paths import Home
from launcher.ports import HOST
from launcher.problem import Problem, say

KEPT, KEPT_VARIABLE = 7, "WEFT_BACKUPS_KEPT"  # A week, where one is made each night.
BASE, WAL_OF_BASE = "base.tar.gz", "pg_wal.tar.gz"  # As pg_basebackup calls them.
ARCHIVE_S_MAX = 30.0  # Until the receiver is there; it takes less than a second.
PRIVATE_FILE = 0o600


def backup(arguments: Namespace) -> int:
    """A backup now; from the first one on WAL is archived. Removes what is too old."""
    home = Home.of()
    if not (seen := state.read(home)):
        raise Problem("the mesh does not run", "`scripts/weft up` starts it")
    kept = _kept()
    began = time.monotonic()
    with _alone(home):
        secret = Credentials.of(home.secrets, [])
        cluster = postgres.Cluster.of(home, seen.postgres)
        line, new = archive.ensure(home, cluster, secret, _folder(arguments, home))
        made = _take(home, cluster, secret, line)
        gone = prune(line, kept)
        _await_archive(home)
    say(f"{made.folder}: {made.bytes() / 1e6:.1f} MB in {time.monotonic() - began:.1f} s")
    say(f"It and the WAL in {line.wal} restore any moment from {made.ended:%Y-%m-%dT%H:%M:%S.%fZ} on.")
    if new:
        say("WAL is archived from now on; `scripts/weft status` says how that goes.")
    if gone:
        say(f"Removed: {', '.join(str(each) for each in gone)}")
    return 0


def _folder(arguments: Namespace, home: Home) -> Path:
    """Where lines are: as asked, else where the present one is."""
    if arguments.to:
        return Path(arguments.to).absolute()
    line = archive.current(home)
    return line.folder.parent if line else home.backups


def _take(home: Home, cluster: postgres.Cluster, secret: Credentials, line: Line) -> Backup:
    """Raises Problem, and leaves nothing that looks whole."""
    for old in line.folder.glob(f"*{NEW}"):
        shutil.rmtree(old)
    now = datetime.now(UTC)
    place = line.folder / archive.stamp(now)
    while place.exists():
        place = place.with_name(f"{place.name}-2")
    making = place.with_name(place.name + NEW)
    _base(cluster, secret, making)
    for name in ("secrets.json", "certificates"):
        _copy(home.path / name, making / name)
    told = json.loads((making / "backup_manifest").read_text())["WAL-Ranges"][0]
    files = manifest.digests(making)
    cluster.query(archive.MARK, secret)
    Manifest(
        format=FORMAT,
        weft=manifest.version(),
        postgres=postgres.MAJOR,
        services=roster.services(paths.root()),
        began=now.isoformat(),
        ended=datetime.now(UTC).isoformat(),
        timeline=told["Timeline"],
        start=told["Start-LSN"],
        files=files,
    ).write(making)
    os.sync()
    making.rename(place)
    return next(each for each in manifest.found(line.folder.parent) if each.folder == place)


def _base(cluster: postgres.Cluster, secret: Credentials, folder: Path) -> None:
    """The cluster as two archives, with the WAL that makes them consistent."""
    where = ["-h", HOST, "-p", str(cluster.port), "-U", postgres.SUPERUSER, "--no-password"]
    how = ["--format=tar", "--compress=client-gzip:1", "--wal-method=stream", "--checkpoint=fast"]
    command = [str(cluster.programs / "pg_basebackup"), "-D", str(folder), *how, *where]
    done = subprocess.run(
        leash.words(command, signal.SIGKILL),  # It writes nothing more when this process is gone.
        env={"PGPASSWORD": secret.postgres, "LC_ALL": "C.UTF-8"},
        capture_output=True, text=True, check=False, umask=0o077,
    )  # fmt: skip
    if done.returncode:
        shutil.rmtree(folder, ignore_errors=True)
        why = (done.stderr.strip().splitlines() or ["pg_basebackup failed"])[-1]
        raise Problem(f"no backup was made: {why}", "see `scripts/weft logs postgres`")


def _copy(source: Path, target: Path) -> None:
    """Files that nobody else may read."""
    for file in [source] if source.is_file() else sorted(source.rglob("*")):
        if file.is_file():
            copy = target / file.relative_to(source)
            copy.parent.mkdir(mode=paths.PRIVATE, parents=True, exist_ok=True)
            with os.fdopen(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE), "wb") as new:
                new.write(file.read_bytes())


def prune(line: Line, kept: int) -> list[Path]:
    """Removes all but the `kept` newest backups, and the WAL that none of these needs. Returns what went."""
    whole = manifest.found(line.folder.parent)
    old, stay = whole[:-kept], whole[-kept:]
    for each in old:
        (each.folder / manifest.NAME).unlink()  # First: what is half removed is no backup.
        shutil.rmtree(each.folder)
    gone = [each.folder for each in old]
    for folder in sorted({each.folder.parent for each in whole}):
        own = [each for each in stay if each.folder.parent == folder]
        if own:
            first = min((each.manifest.timeline, wal.number(each.manifest.start)) for each in own)
            for segment in wal.segments(folder / "wal"):
                if (segment.timeline, segment.number) < first:
                    segment.path.unlink()
        elif folder != line.folder:
            shutil.rmtree(folder)
            gone.append(folder)
    return gone


def _await_archive(home: Home) -> None:
    """Until the receiver runs. Raises Problem when it does not: then only the backup's own moment is safe."""
    archive.nudge(home)  # It goes on where it was full.
    ends = time.monotonic() + ARCHIVE_S_MAX
    while time.monotonic() < ends:
        seen = state.read(home)
        parts = [each for each in seen.components if each.name == archive.COMPONENT] if seen else []
        if any(each.phase == state.READY for each in parts):
            return
        time.sleep(0.05)
    why = parts[0].note or parts[0].phase if parts else "no receiver"
    raise Problem(
        f"the backup is made, but WAL is not archived: {why}",
        f"see `scripts/weft logs {archive.COMPONENT}`",
    )


@contextmanager
def _alone(home: Home) -> Iterator[None]:
    """Raises Problem while another backup is being made."""
    lock = home.state.with_name("backup.lock")
    with os.fdopen(os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Problem("another backup is being made", "wait for it to end") from error
        yield


def _kept() -> int:
    chosen = os.environ.get(KEPT_VARIABLE, str(KEPT))
    if not (chosen.isdigit() and int(chosen)):
        raise Problem(f"{KEPT_VARIABLE} must be a number above 0", "correct it, or unset it")
    return int(chosen)


@dataclass(frozen=True)
class Summary:
    """What `status` says of the line that is written, and of all backups beside it."""

    folder: str
    last: str | None  # When the line's last backup was whole; None: it has none yet.
    age_s: int
    kept: int
    bytes: int
    archive_bytes: int


def summary(home: Home) -> Summary | None:
    """None while no WAL is archived. Raises Problem when a backup cannot be read."""
    line = archive.current(home)
    if line is None:
        return None
    whole = manifest.found(line.folder.parent)
    own = [each for each in whole if each.folder.parent == line.folder]
    return Summary(
        folder=str(line.folder.parent),
        last=own[-1].manifest.ended if own else None,
        age_s=round((datetime.now(UTC) - own[-1].ended).total_seconds()) if own else 0,
        kept=len(whole),
        bytes=sum(each.bytes() for each in whole),
        archive_bytes=line.bytes() if line.wal.is_dir() else 0,
    )
