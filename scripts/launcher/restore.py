"""`weft restore --at TIME`: the mesh as it was at a moment, out of a backup and the WAL archived since.

All is made and tried beside its place; what was there is moved aside, never removed. One cluster holds all
databases, so that all services go back to the same moment. Streams do not go back: they are made anew, and
what every service's event table holds is published again, for consumers know by their inboxes what they have
handled (services/*/restored.sql).
"""

import os
import shutil
import tarfile
from argparse import Namespace
from datetime import UTC, datetime
from pathlib import Path

from launcher import archive, manifest, paths, postgres, recovery, roster, state, wal
from launcher.backup import BASE, PRIVATE_FILE, WAL_OF_BASE
from launcher.credentials import Credentials
from launcher.manifest import Backup
from launcher.pair import second
from launcher.paths import Home
from launcher.postgres import Cluster
from launcher.problem import Problem, say
from launcher.replica import forget_names

LATEST = "latest"
# What gives way; logs and backups stay.
PARTS = (
    *("postgres", "postgres-2", "cluster.json"),
    *("secrets.json", "certificates", "nats", "envoy", "archive.json"),
)


def restore(arguments: Namespace) -> int:
    """Puts the data folder back to a moment. The mesh must be down."""
    home, at = Home.of(), moment(arguments.at)
    home.make()
    os.umask(0o077)
    with state.holding(home) as alone:
        if not alone:
            raise Problem("the mesh runs", "`scripts/weft down` stops it")
        cluster = Cluster.of(home, 0)
        _check_place(home, cluster, force=arguments.force)
        chosen = choose(_source(arguments, home), at)
        check_version(chosen)
        chosen.verify()
        staged = cluster.data.with_name("postgres.restoring")
        try:
            reached = _stage(home, cluster, chosen, at, staged)
        except BaseException:
            shutil.rmtree(staged, ignore_errors=True)
            raise
        kept = put(home, cluster, staged, chosen)
    say(f"Restored to {_said(at) if at else 'the last archived commit'}, from {chosen.folder}.")
    say(f"The last commit in it is of {_said(reached or chosen.ended)}.")
    if kept:
        say(f"What was there before is in {kept}.")
    say("`scripts/weft up` starts it; then `scripts/weft backup`, as no WAL is archived until then.")
    return 0


def moment(text: str) -> datetime | None:
    """A time with its zone; None for `latest`. Raises Problem."""
    if text == LATEST:
        return None
    try:
        at: datetime | None = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise Problem(f"{text} is no time with its zone", f"write 2026-11-21T23:10:00Z, or `{LATEST}`")
    return at.astimezone(UTC)


def choose(folder: Path, at: datetime | None) -> Backup:
    """The newest backup that was whole by then. Raises Problem."""
    whole = manifest.found(folder)
    if not whole:
        raise Problem(f"there is no backup in {folder}", "name the folder with --from")
    before = [each for each in whole if at is None or each.ended <= at]
    if not before:
        asked, first = _said(at or whole[0].ended), _said(whole[0].ended)
        raise Problem(f"{asked} is before the first backup in {folder}", f"the first moment is {first}")
    return before[-1]


def _source(arguments: Namespace, home: Home) -> Path:
    if arguments.source:
        return Path(arguments.source).absolute()
    line = archive.current(home)
    return line.folder.parent if line else home.backups


def _check_place(home: Home, cluster: Cluster, *, force: bool) -> None:
    """Raises Problem when something would have to give way and nobody said that it may."""
    cluster.check()
    parts = (cluster.data, second(cluster), home.secrets, home.path / "nats" / "store")
    there = [each for each in parts if each.exists()]
    if there and not force and not home.restoring.exists():
        raise Problem(
            f"{there[0]} is there already",
            "--force keeps all that is there aside; or set WEFT_HOME to a new folder, and --from",
        )


def check_version(chosen: Backup) -> None:
    """Raises Problem on what this version cannot run."""
    told, here = chosen.manifest, manifest.version()
    if told.postgres != postgres.MAJOR:
        raise Problem(
            f"{chosen.folder} was made by PostgreSQL {told.postgres}, this is PostgreSQL {postgres.MAJOR}",
            "restore it with the version of Weft that made it",
        )
    if _numbers(told.weft) > _numbers(here):
        raise Problem(f"{chosen.folder} is of Weft {told.weft}, this is {here}", "check out that version")
    if unknown := sorted(set(told.services) - set(roster.services(paths.root()))):
        raise Problem(
            f"{chosen.folder} has a service that is not here: {unknown[0]}", "check out the version that has"
        )


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part.isdigit()]


def _stage(
    home: Home, cluster: Cluster, chosen: Backup, at: datetime | None, staged: Path
) -> datetime | None:
    """A whole cluster beside its place, at that moment; returns its last commit's. Raises Problem."""
    if cluster.apart:
        cluster.bring_programs()
    shutil.rmtree(staged, ignore_errors=True)
    _unpack(chosen.folder / BASE, staged)
    forget_names(staged)  # A cluster's commits waited for a replica, which this one does not have yet.
    _unpack(chosen.folder / WAL_OF_BASE, staged / "pg_wal")
    told = chosen.manifest
    wal.gather(chosen.wal, staged / "pg_wal", told.timeline, told.start)
    last = wal.reach(cluster, staged / "pg_wal", told.timeline, told.start)
    if at and (last is None or last <= at):  # Recovery knows that it is there by the first commit after it.
        end = f"the archive ends at {_said(last)}" if last else "nothing was archived"
        raise Problem(
            f"{_said(at)} is after the last archived WAL: {end}", f"`--at {LATEST}` restores all there is"
        )
    _own(staged, cluster)
    secrets = home.path / "secrets.restoring"  # A copy: it may be completed as it is read.
    shutil.copyfile(chosen.folder / "secrets.json", secrets)
    secret = Credentials.of(secrets, [])
    secrets.unlink()
    return recovery.recover(home, cluster, staged, secret, at)


def _unpack(source: Path, target: Path) -> None:
    target.mkdir(mode=paths.PRIVATE, parents=True, exist_ok=True)
    with tarfile.open(source) as packed:
        packed.extractall(target, filter="data")


def _own(folder: Path, cluster: Cluster) -> None:
    """PostgreSQL wants its files for itself, and the account it runs as may not be ours."""
    for place, _, files in os.walk(folder):
        os.chmod(place, paths.PRIVATE)
        os.chown(place, cluster.account.uid, cluster.account.gid)
        for name in files:
            os.chmod(os.path.join(place, name), PRIVATE_FILE)
            os.chown(os.path.join(place, name), cluster.account.uid, cluster.account.gid)


def put(home: Home, cluster: Cluster, staged: Path, chosen: Backup) -> Path | None:
    """Everything into place, by renames; a kill among them is told by `restoring`. Returns what is kept."""
    kept = _aside(home)
    unfinished = home.restoring.with_suffix(".new")
    unfinished.write_text(str(kept))
    unfinished.replace(home.restoring)
    for name in PARTS:
        _give_way(home.path / name, kept / name)
    if cluster.apart:
        for data in (cluster.data, second(cluster)):
            _give_way(data, data.with_name(f"{data.name}.{kept.name}"))
    staged.rename(cluster.data)
    for name in sorted(chosen.manifest.files):
        if name == "secrets.json" or name.startswith("certificates/"):
            target = home.path / name
            target.parent.mkdir(mode=paths.PRIVATE, exist_ok=True)
            shutil.copyfile(chosen.folder / name, target)
            target.chmod(PRIVATE_FILE)
    os.sync()
    home.restoring.unlink()
    return kept if kept.exists() else None


def _give_way(there: Path, kept: Path) -> None:
    """Keeps what is there; of a restore that was interrupted, what it had put there already goes."""
    if not there.exists():
        return
    if there.is_dir() and not any(there.iterdir()):
        there.rmdir()
    elif not kept.exists():
        kept.parent.mkdir(mode=paths.HOME_MODE, exist_ok=True)
        there.rename(kept)
    elif there.is_dir():
        shutil.rmtree(there)
    else:
        there.unlink()


def _aside(home: Home) -> Path:
    """Where what was there goes: that of a restore that was interrupted, else a new folder."""
    if home.restoring.exists():
        return Path(home.restoring.read_text())
    return home.path / f"before-{archive.stamp()}"


def _said(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
