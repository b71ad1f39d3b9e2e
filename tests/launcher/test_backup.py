"""A mesh comes back as it was at a moment; what could not come back is refused by name; no backup only looks
whole."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from launcher import account, archive, manifest, postgres, preflight, restore, state, wal
from launcher.backup import prune
from launcher.credentials import Credentials
from launcher.paths import Home
from launcher.plan import Plan
from launcher.ports import Ports
from launcher.problem import Problem
from tests.launcher.conftest import ROOT, Mesh, _new, until

ROWS = "select string_agg(word, ' ' order by word) from word"


@dataclass
class Archived:
    """A mesh with a backup, and rows from before it, after it, and after the moment."""

    mesh: Mesh
    moment: str
    restored: Mesh  # Another data folder, empty.

    @property
    def folder(self) -> Path:
        return self.mesh.home / "backups"

    def restore(self, at: str, *words: str) -> "subprocess.CompletedProcess[str]":
        return self.restored.weft("restore", "--at", at, "--from", str(self.folder), *words)


def server(mesh: Mesh) -> tuple[postgres.Cluster, Credentials]:
    seen = state.read(Home(mesh.home))
    assert seen
    secret = Credentials.of(mesh.home / "secrets.json", [])
    return postgres.Cluster.of(Home(mesh.home), seen.ports["postgres"]), secret


def ask(mesh: Mesh, database: str, sql: str) -> str:
    """As superuser."""
    cluster, secret = server(mesh)
    return cluster.query(sql, secret, database)


def tell(mesh: Mesh, database: str, sql: str) -> None:
    cluster, secret = server(mesh)
    assert cluster.run_sql(sql, secret, database) == ""


def write(mesh: Mesh, word: str) -> None:
    for name in ("alpha", "beta"):
        tell(mesh, name, f"insert into word values ('{word}')")


def now(mesh: Mesh) -> str:
    told = ask(mesh, "alpha", "select extract(epoch from clock_timestamp())")
    return datetime.fromtimestamp(float(told), UTC).isoformat()


def events() -> str:
    """The chassis's tables, with events 10 days and 5 days old and a new one, all published, and one note."""
    sql = (ROOT / "services/chassis/migrations/0001_events.sql").read_text()
    for n, age in enumerate(("10 days", "5 days", "0 days"), 1):
        columns = "id, type, key, subject, actor, acting, trace, schema_version, payload, at"
        values = f"'{n:032x}', 't', '', '', '', '', '', 1, '', now() - interval '{age}'"
        sql += f"insert into event ({columns}) values ({values});\n"
    note = f"insert into inbox values ('one', '{2:032x}', now() - interval '5 days');"
    return sql + "insert into relay values ('alpha', 3);\n" + note


@pytest.fixture(scope="module")
def archived(tree: Path, template: Path, place: Path) -> Iterator[Archived]:
    folder = Path(tempfile.mkdtemp(dir=place))
    folder.chmod(0o755)
    (tree / "services" / "chassis").mkdir(exist_ok=True)
    (tree / "services" / "chassis" / "restored.sql").symlink_to(ROOT / "services/chassis/restored.sql")
    for mesh in _new(tree, folder / "home"):
        subprocess.run(["cp", "-aT", template, mesh.home], check=True)
        mesh.up()
        for name, more in (("alpha", events()), ("beta", "")):
            tell(mesh, name, f"create table word (word text); insert into word values ('before'); {more}")
        done = mesh.weft("backup")
        assert done.returncode == 0, done.stdout + done.stderr
        write(mesh, "meanwhile")
        tell(mesh, "alpha", "select pg_switch_wal()")
        moment = now(mesh)
        write(mesh, "too-late")
        tell(mesh, "alpha", "update event set at = now() where position = 1; delete from inbox")
        for restored in _new(tree, folder / "restored"):
            yield Archived(mesh, moment, restored)


def test_every_database_is_as_it_was_at_the_moment(archived: Archived) -> None:
    old, new = archived.mesh, archived.restored
    assert "the mesh runs" in old.weft("restore", "--at", "latest").stderr
    done = archived.restore("latest")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not list(new.home.glob("before-*"))
    assert "--force" in archived.restore(archived.moment).stderr
    done = archived.restore(archived.moment, "--force")
    assert done.returncode == 0, done.stdout + done.stderr
    kept = next(new.home.glob("before-*"))
    assert str(kept) in done.stdout
    assert {each.name for each in kept.iterdir()} >= {"postgres", "secrets.json"}
    assert (new.home / "secrets.json").read_bytes() == (old.home / "secrets.json").read_bytes()
    assert (new.home / "secrets.json").stat().st_mode & 0o077 == 0
    new.up()
    for name in ("alpha", "beta"):
        assert ask(new, name, ROWS) == "before meanwhile"
    assert ask(old, "alpha", ROWS) == "before meanwhile too-late"
    # The one of 10 days is not published again, for nobody has a note of it any more.
    assert ask(new, "alpha", "select position from relay") == "1"
    assert ask(new, "alpha", "select count(*) from inbox where at > now() - interval '1 hour'") == "1"


def test_status_says_how_old_the_last_backup_is_and_that_the_archive_has_stopped(archived: Archived) -> None:
    mesh = archived.mesh
    told = json.loads(mesh.weft("status", "--json").stdout)
    assert told["healthy"]
    assert 0 <= told["backup"]["age_s"] < 600
    line = archive.current(Home(mesh.home))
    assert line
    away = line.folder / "away"
    line.wal.rename(away)
    archive.nudge(Home(mesh.home))
    until(lambda: "is not there" in mesh.parts()[archive.COMPONENT].note, "nobody noticed")
    done = mesh.weft("status")
    assert done.returncode == 1
    assert "has stopped" in done.stdout
    assert "last backup 0.0 h ago; 1 kept" in done.stdout
    away.rename(line.wal)
    archive.nudge(Home(mesh.home))
    until(lambda: mesh.parts()[archive.COMPONENT].phase == state.READY, "it does not go on")


def test_kill_9_in_the_middle_leaves_no_backup_that_looks_whole(archived: Archived) -> None:
    mesh, before = archived.mesh, [each.folder for each in manifest.found(archived.folder)]
    process = subprocess.Popen([*mesh.command, "backup"], env=mesh.environ, stdout=subprocess.DEVNULL)
    until(lambda: bool(list(archived.folder.glob("*/*.making/base.tar.gz"))), "it never began")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert [each.folder for each in manifest.found(archived.folder)] == before
    done = mesh.weft("backup")
    assert done.returncode == 0, done.stderr
    assert not list(archived.folder.glob("*/*.making"))
    assert len(manifest.found(archived.folder)) == len(before) + 1


def test_a_time_after_the_archive_is_refused_and_nothing_is_left(archived: Archived, folder: Path) -> None:
    mesh = Mesh(archived.mesh.root, folder / "home", archived.mesh.base)
    late = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    done = mesh.weft("restore", "--at", late, "--from", str(archived.folder))
    assert done.returncode == 1
    assert "is after the last archived WAL: the archive ends at" in done.stderr
    assert {each.name for each in mesh.home.iterdir()} <= {"run", "logs", "nats", "envoy"}


def test_a_time_before_the_first_backup_is_refused(archived: Archived, tmp_path: Path) -> None:
    first = manifest.found(archived.folder)[0]
    assert restore.choose(archived.folder, first.ended).folder == first.folder
    with pytest.raises(Problem, match="is before the first backup"):
        restore.choose(archived.folder, first.ended - timedelta(seconds=1))
    with pytest.raises(Problem, match="there is no backup in"):
        restore.choose(tmp_path, None)


def test_a_time_needs_a_zone() -> None:
    assert restore.moment("2026-11-21T23:10:00Z") == datetime(2026, 11, 21, 23, 10, tzinfo=UTC)
    assert restore.moment("2026-11-22T00:10:00+01:00") == datetime(2026, 11, 21, 23, 10, tzinfo=UTC)
    for wrong in ("yesterday", "2026-11-21T23:10:00"):
        with pytest.raises(Problem, match="is no time with its zone"):
            restore.moment(wrong)


def test_a_backup_of_another_version_is_refused(archived: Archived, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEFT_ROOT", str(archived.mesh.root))
    found = manifest.found(archived.folder)[0]
    restore.check_version(found)
    for told, why in (
        ({"postgres": "17"}, "was made by PostgreSQL 17"),
        ({"weft": "99.0.0"}, "is of Weft 99.0.0"),
        ({"services": ["alpha", "gamma"]}, "has a service that is not here: gamma"),
    ):
        with pytest.raises(Problem, match=why):
            restore.check_version(replace(found, manifest=replace(found.manifest, **told)))


def test_a_damaged_file_is_named(archived: Archived, tmp_path: Path) -> None:
    whole = manifest.found(archived.folder)[0]
    whole.verify()
    copy = replace(whole, folder=Path(shutil.copytree(whole.folder, tmp_path / "copy")))
    for name in copy.manifest.files:
        content = (copy.folder / name).read_bytes()
        (copy.folder / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(Problem, match=f"{name} is not as it was written"):
            copy.verify()
        (copy.folder / name).unlink()
        with pytest.raises(Problem, match=f"{name} is missing"):
            copy.verify()
        (copy.folder / name).write_bytes(content)
    copy.verify()


def test_damaged_and_missing_wal_is_named(archived: Archived, tmp_path: Path) -> None:
    cluster, told = postgres.Cluster.of(Home(archived.mesh.home), 0), manifest.found(archived.folder)[0]
    timeline, start = told.manifest.timeline, told.manifest.start
    source, target = Path(shutil.copytree(told.wal, tmp_path / "wal")), tmp_path / "pg_wal"
    target.mkdir()
    wal.gather(source, target, timeline, start)
    last = wal.reach(cluster, target, timeline, start)
    assert last
    assert last > datetime.fromisoformat(archived.moment)
    first = wal.segments(target)[0]
    with first.path.open("r+b") as file:
        file.seek(int(start.partition("/")[2], 16) % archive.SEGMENT_BYTES + 100)
        file.write(b"damage" * 20)
    with pytest.raises(Problem, match=f"{first.name} cannot be read"):
        wal.reach(cluster, target, timeline, start)
    shutil.rmtree(target)
    target.mkdir()
    (source / first.name).unlink()
    with pytest.raises(Problem, match=f"{first.name} is missing"):
        wal.gather(source, target, timeline, start)


def test_up_refuses_what_a_restore_left_half_way(tmp_path: Path) -> None:
    Home(tmp_path).restoring.write_text("before-1")
    with pytest.raises(Problem, match=r"a restore into .* was interrupted") as refused:
        preflight.check(Plan(Ports(), 1, edge=True), Home(tmp_path), ["alpha"])
    assert "before-1" in refused.value.way_out


def test_a_restore_that_was_killed_among_its_renames_is_run_again_and_keeps_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, backup = Home(tmp_path / "home"), tmp_path / "line" / "backup"
    backup.mkdir(parents=True)
    (backup / "secrets.json").write_text("restored")
    made = manifest.Manifest(
        format=1, weft="0.1.0", postgres="18", services=[], began="", ended="", timeline=1, start="0/0",
        files={"secrets.json": ""},
    )  # fmt: skip
    cluster = postgres.Cluster(home.path / "postgres", Path(), account.for_postgres(), 0)
    (cluster.data / "old").mkdir(parents=True)
    home.secrets.write_text("old")

    def put() -> Path | None:
        staged = home.path / "postgres.restoring"
        (staged / "new").mkdir(parents=True)
        return restore.put(home, cluster, staged, manifest.Backup(backup, made))

    with monkeypatch.context() as patched:
        patched.setattr(os, "sync", lambda: 1 / 0)  # The last step but one.
        with pytest.raises(ZeroDivisionError):
            put()
    assert home.restoring.exists()
    kept = put()
    assert kept
    assert not home.restoring.exists()
    assert (kept / "secrets.json").read_text() == "old"
    assert (kept / "postgres" / "old").is_dir()
    assert home.secrets.read_text() == "restored"
    assert (cluster.data / "new").is_dir()


def line(folder: Path, name: str, starts: Sequence[str]) -> archive.Line:
    """A line with a backup for each start, and ten segments."""
    made = archive.Line(folder / name)
    made.wal.mkdir(parents=True)
    for n, start in enumerate(starts):
        backup = made.folder / f"{name}-{n}"
        backup.mkdir()
        at = datetime(2026, 11, 1 + n, tzinfo=UTC).isoformat()
        manifest.Manifest(
            format=1,
            weft="0.1.0",
            postgres="18",
            services=[],
            began=at,
            ended=at,
            timeline=1,
            start=start,
            files={},
        ).write(backup)
    for n in range(10):
        (made.wal / f"00000001{0:08X}{n:08X}").touch()
    return made


def test_old_backups_go_and_the_wal_that_only_they_needed(tmp_path: Path) -> None:
    former, present = (
        line(tmp_path, "a", ["0/1000028"]),
        line(tmp_path, "b", ["0/1000028", "0/4000028", "0/6000028"]),
    )
    gone = prune(present, 2)
    assert {each.name for each in gone} == {"a", "a-0", "b-0"}
    assert not former.folder.exists()
    assert [each.folder.name for each in manifest.found(tmp_path)] == ["b-1", "b-2"]
    assert [each.number for each in wal.segments(present.wal)] == list(range(4, 10))


def test_an_archive_that_is_full_takes_nothing_more(tmp_path: Path) -> None:
    made = line(tmp_path, "a", [])
    assert made.closed(1) == ""
    with (made.wal / "000000010000000000000000").open("wb") as file:
        file.truncate(1_000_000_001)  # A hole: it takes no room.
    assert "is full: 1.0 GB" in made.closed(1)
