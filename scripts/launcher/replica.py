"""Makes a PostgreSQL cluster follow another: as it is, by pg_rewind when it was ahead, else as a new copy."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

from launcher import leash, paths
from launcher.credentials import Credentials
from launcher.ports import HOST
from launcher.postgres import SUPERUSER, Cluster, wishes
from launcher.problem import Problem

SIGNAL = "standby.signal"  # PostgreSQL starts as a replica while this file is there.
SETTINGS_FILE = "postgresql.auto.conf"  # What `alter system` has set.
NAMES = "synchronous_standby_names"
SLOT = "weft_replica"  # Keeps what the replica does not have yet, up to SLOT_KEEPS.
LOST = "lost"

SLOT_STATE = f"select wal_status from pg_replication_slots where slot_name = '{SLOT}'"
NEW_SLOT = f"""
select pg_drop_replication_slot(slot_name) from pg_replication_slots
where slot_name = '{SLOT}' and wal_status = '{LOST}' and not active;
select pg_create_physical_replication_slot('{SLOT}', true)
where not exists (select from pg_replication_slots where slot_name = '{SLOT}');
"""

# A server that says nothing for this long is taken for away by its peer.
SILENCE = "6s"
SETTINGS = {
    # A commit is acknowledged when the replica, too, has it on its disk. Not `remote_apply`: nobody reads
    # from the replica, so nobody waits until it shows what it has.
    "synchronous_commit": "on",
    "wal_sender_timeout": SILENCE,
    "wal_receiver_timeout": SILENCE,
    "wal_retrieve_retry_interval": "500ms",  # Until a replica asks again; the primary is back in moments.
    "primary_slot_name": SLOT,
}


def settings(source: Cluster, name: str) -> dict[str, str]:
    """What a server is started with beyond its own; a primary does not look at it."""
    words = f"host={HOST} port={source.port} user={SUPERUSER} application_name={name}"
    secret = str(pass_file(source)).replace("\\", "\\\\").replace("'", "\\'")
    return SETTINGS | {"primary_conninfo": f"{words} passfile='{secret}'"}


def pass_file(cluster: Cluster) -> Path:
    return cluster.data.with_name("postgres.pass")


def write_pass_file(cluster: Cluster, secret: Credentials) -> None:
    """The password that a replica comes with, for PostgreSQL's account alone: never in a command."""
    path = pass_file(cluster)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f"*:*:*:{SUPERUSER}:{secret.postgres}\n")
    os.chown(path, cluster.account.uid, cluster.account.gid)


def follow(cluster: Cluster, source: Cluster, secret: Credentials, *, anew: bool) -> str:
    """Has `cluster`, which does not run, follow `source`, which does. Returns how. Raises Problem."""
    lost = source.query(SLOT_STATE, secret) == LOST
    if why := source.run_sql(NEW_SLOT, secret):
        raise Problem(f"the primary keeps nothing for a replica: {why}", "see `scripts/weft logs`")
    there = cluster.data.exists()
    why = "there was none" if not there else "it lacked too much" if lost else "what it had was of no use"
    if there and not anew and not lost:
        if (cluster.data / SIGNAL).exists():
            return "goes on where it was"
        if not (why := _rewind(cluster, source, secret)):
            return "was rewound to where the two parted"
    _copy(cluster, source, secret)
    return f"is a new copy: {why}"


def forget_names(data: Path) -> None:
    """Whom commits wait for is set while a server runs, and not kept by one that begins without."""
    path = data / SETTINGS_FILE
    if not path.exists():
        return
    lines = path.read_text().splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith(NAMES)]
    if kept != lines:
        owner = path.stat()
        unfinished = path.with_suffix(".new")
        unfinished.write_text("".join(kept))
        unfinished.chmod(0o600)
        os.chown(unfinished, owner.st_uid, owner.st_gid)
        unfinished.replace(path)


def _rewind(cluster: Cluster, source: Cluster, secret: Credentials) -> str:
    """Takes back what only `cluster` has, which nobody was told is done; why not, if it cannot be."""
    forget_names(cluster.data)
    source.run_sql("checkpoint", secret)  # Then its files name the history that it is on.
    where = f"host={HOST} port={source.port} user={SUPERUSER} dbname=postgres"
    command = [str(cluster.programs / "pg_rewind"), "-D", str(cluster.data), f"--source-server={where}"]
    why = _run(cluster, [*command, *_unsynced()], secret)
    if not why:
        _mark(cluster, cluster.data)
    return why


def _copy(cluster: Cluster, source: Cluster, secret: Credentials) -> None:
    """A copy beside its place, which takes it when it is whole. Raises Problem."""
    making = cluster.data.with_name(f"{cluster.data.name}.making")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(mode=paths.PRIVATE)
    os.chown(making, cluster.account.uid, cluster.account.gid)
    where = ["-h", HOST, "-p", str(source.port), "-U", SUPERUSER, "--no-password"]
    how = ["--wal-method=stream", "--checkpoint=fast", *_unsynced()]
    command = [str(cluster.programs / "pg_basebackup"), "-D", str(making), *how, *where]
    if why := _run(cluster, command, secret):
        shutil.rmtree(making, ignore_errors=True)
        raise Problem(f"PostgreSQL could not be copied: {why}", "see `scripts/weft logs postgres`")
    _mark(cluster, making)
    if cluster.data.exists():
        shutil.rmtree(cluster.data)
    making.rename(cluster.data)


def _mark(cluster: Cluster, data: Path) -> None:
    """From now on this is a replica's folder."""
    forget_names(data)
    (data / SIGNAL).touch(mode=0o600)
    os.chown(data / SIGNAL, cluster.account.uid, cluster.account.gid)


def _unsynced() -> list[str]:
    return ["--no-sync"] if wishes().get("fsync") == "off" else []


def _run(cluster: Cluster, command: list[str], secret: Credentials) -> str:
    """Runs a program as PostgreSQL's account, which ends with us; its last words if it failed."""
    who = cluster.account
    uid, gid = (-1, -1) if who.is_us else (who.uid, who.gid)
    done = subprocess.run(
        leash.words(command, signal.SIGKILL, uid, gid),
        env={"PGPASSWORD": secret.postgres, "LC_ALL": "C.UTF-8", "PATH": os.environ.get("PATH", "")},
        capture_output=True, text=True, check=False, cwd="/", stdin=subprocess.DEVNULL,
    )  # fmt: skip
    lines = [line for line in done.stderr.splitlines() if line.strip()] or [f"{command[0]} failed"]
    return lines[-1] if done.returncode else ""
