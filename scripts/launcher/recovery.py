"""PostgreSQL's own recovery, run to a moment on a cluster beside its place; then what restored.sql says."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from launcher import leash, paths
from launcher.child import last_line
from launcher.credentials import Credentials
from launcher.paths import Home
from launcher.ports import HOST
from launcher.postgres import Cluster
from launcher.problem import Problem, say

LOG = "restore"
WAITS = "the database system is"  # What who connects is told while WAL is replayed.
TELL_EVERY_S = 10.0  # How often a person is told that WAL is still being replayed.
STOP_S = 60.0  # Until a server that does not stop is killed, and the restore given up.
REPLAYED_D = 6  # Events this young are published again: below the days an inbox remembers (chassis/inbox.py).

REACHED = "select extract(epoch from pg_last_xact_replay_timestamp())"
DATABASES = "select datname from pg_database where datallowconn and datname not in ('postgres', 'template1')"


def recover(
    home: Home, cluster: Cluster, data: Path, secret: Credentials, at: datetime | None
) -> datetime | None:
    """Replays WAL up to `at`, or all; puts right what streams made anew ask for. Returns the last commit's
    time, None when there was none since the backup."""
    server = replace(cluster, data=data, port=_free_port())
    (data / "recovery.signal").touch(mode=0o600)
    os.chown(data / "recovery.signal", cluster.account.uid, cluster.account.gid)
    with _running(home, server, at) as process:
        _await(home, process, server, secret)
        reached = _reached(server, secret)
        _put_right(server, secret, at or reached or datetime.now(UTC))
    if process.returncode:
        raise Problem(f"PostgreSQL stopped with {process.returncode}", _see(home))
    return reached


@contextmanager
def _running(home: Home, server: Cluster, at: datetime | None) -> "Iterator[subprocess.Popen[bytes]]":
    """The server, stopped cleanly in the end."""
    who = server.account
    uid, gid = (-1, -1) if who.is_us else (who.uid, who.gid)
    command = [*server.command(0), *(part for word in _target(at) for part in ("-c", word))]
    with home.log(LOG).open("wb") as log:
        process = subprocess.Popen(
            leash.words(command, signal.SIGINT, uid, gid), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8"}, cwd="/",
        )  # fmt: skip
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _target(at: datetime | None) -> list[str]:
    """All WAL lies in the cluster already, so that nothing is fetched; nobody reads before it is done."""
    words = [f"restore_command={shutil.which('false') or '/bin/false'}", "hot_standby=off"]
    if at:
        words += [f"recovery_target_time={at.isoformat()}", "recovery_target_action=promote"]
    return [*words, "recovery_target_timeline=current"]


def _await(home: Home, process: "subprocess.Popen[bytes]", server: Cluster, secret: Credentials) -> None:
    """Until all is replayed, which takes what it takes. Raises Problem when the server gives up."""
    told = time.monotonic()
    while server.query("select not pg_is_in_recovery()", secret) != "t":
        if process.poll() is not None:
            why = _last_said(home, "FATAL") or last_line(home.log(LOG))
            raise Problem(f"PostgreSQL could not recover: {why}", _see(home))
        if time.monotonic() - told > TELL_EVERY_S:
            told = time.monotonic()
            say(_last_said(home, "redo"))
        time.sleep(0.1)


def _last_said(home: Home, word: str) -> str:
    """The last line with that word; those that only tell us to wait excepted."""
    lines = home.log(LOG).read_text().splitlines()
    return next((line for line in reversed(lines) if word in line and WAITS not in line), "")


def _reached(server: Cluster, secret: Credentials) -> datetime | None:
    """When the last transaction that is in it ended."""
    seconds = server.query(REACHED, secret)
    return datetime.fromtimestamp(float(seconds), UTC) if seconds else None


def _put_right(server: Cluster, secret: Credentials, at: datetime) -> None:
    """Runs the chassis's restored.sql in each database, then the service's own."""
    services = paths.root() / "services"
    words = ["-1", "-v", f"at={at.isoformat()}", "-v", f"days={REPLAYED_D}"]
    for name in server.query(DATABASES, secret).splitlines():
        for folder in ("chassis", name):
            file = services / folder / "restored.sql"
            if file.exists() and (why := server.run_sql(file.read_text(), secret, name, *words)):
                raise Problem(f"{file}: {why}", f"database {name}")


def _free_port() -> int:
    with socket.socket() as door:
        door.bind((HOST, 0))
        return int(door.getsockname()[1])


def _see(home: Home) -> str:
    return f"see {home.log(LOG)}"
