"""A stand-in tree whose services only answer /ready, started by the real launcher on real servers."""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from launcher import ports, state  # noqa: E402
from launcher.paths import Home  # noqa: E402

WAIT_S = 20.0
PORTS_NEEDED = 100  # From --port-base on.

MAIN = '''
"""Answers /ready at once; dies when a file `die` lies in the data folder."""
import http.server, os, pathlib, sys

class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass

if __name__ == "__main__":
    if (pathlib.Path(os.environ["WEFT_HOME"]) / "die").exists():
        sys.exit("no heart to go on")
    print("serving", *sys.argv[1:])
    host, _, port = os.environ["WEFT_METRICS_ADDRESS"].rpartition(":")
    http.server.ThreadingHTTPServer((host, int(port)), Ready).serve_forever()
'''


@dataclass
class Mesh:
    """One data folder, and the launcher's commands on it."""

    root: Path
    home: Path
    base: int
    extra: dict[str, str] = field(default_factory=dict)
    user: int | None = None  # Another account that runs the launcher.

    @property
    def environ(self) -> dict[str, str]:
        own = {"WEFT_ROOT": str(self.root), "WEFT_HOME": str(self.home), "WEFT_PORT_BASE": str(self.base)}
        own["WEFT_POSTGRES_OPTIONS"] = "fsync=off full_page_writes=off"  # Nobody will miss this data.
        return {**os.environ, **own, "WEFT_VENV": sys.prefix, **self.extra}

    @property
    def command(self) -> list[str]:
        return [sys.executable, str(ROOT / "scripts" / "weft")]

    def weft(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*self.command, *words],
            env=self.environ, capture_output=True, text=True, check=False, timeout=60,
            stdin=subprocess.DEVNULL,
            user=self.user, group=self.user, extra_groups=None if self.user is None else [],
        )  # fmt: skip

    def up(self, *words: str) -> "subprocess.CompletedProcess[str]":
        done = self.weft("up", "--no-edge", *words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    @contextmanager
    def attached(self) -> "Iterator[subprocess.Popen[bytes]]":
        """`up --foreground`, once it serves."""
        process = subprocess.Popen(
            [*self.command, "up", "--no-edge", "--foreground"],
            env=self.environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # As in a terminal.
        )  # fmt: skip
        with process:
            assert process.stdout
            assert any(b"Serving" in line for line in process.stdout), "it never served"
            yield process

    def parts(self) -> dict[str, state.Component]:
        """What the supervisor says of its children now."""
        seen = state.read(Home(self.home))
        return {each.name: each for each in seen.components} if seen else {}

    def pid(self, name: str) -> int:
        seen = state.read(Home(self.home))
        assert seen
        pid = seen.pid if name == "supervisor" else seen.find(name).pid
        assert pid
        return pid

    def processes(self) -> list[str]:
        """Whatever still runs for this data folder."""
        found = []
        for process in psutil.process_iter():
            try:
                told = [*process.cmdline(), process.environ().get("WEFT_HOME", "")]
                if process.status() != psutil.STATUS_ZOMBIE and any(str(self.home) in word for word in told):
                    found.append(" ".join(process.cmdline()))
            except psutil.Error:
                continue
        return found


def until(what: Callable[[], bool], why: str) -> None:
    ends = time.monotonic() + WAIT_S
    while not what():
        assert time.monotonic() < ends, why
        time.sleep(0.05)


def free_base() -> int:
    """A port from which on all are free now."""
    for _ in range(100):
        base = random.randrange(20_000, 32_000 - PORTS_NEEDED)
        offsets = [each.metadata["offset"] for each in fields(ports.Ports)]
        if not any(ports.refusal(base + offset) for offset in offsets):
            return base
    raise AssertionError("no free ports")


@pytest.fixture(scope="session")
def place() -> Iterator[Path]:
    """A folder that everybody may enter: pytest's own are closed to the account PostgreSQL runs as."""
    with tempfile.TemporaryDirectory(prefix="weft-launcher-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def folder(place: Path) -> Path:
    """This test's own."""
    own = Path(tempfile.mkdtemp(dir=place))
    own.chmod(0o755)
    return own


@pytest.fixture(scope="session")
def tree(place: Path) -> Path:
    """A repository with two services that need nothing."""
    root = place / "tree"
    for name in ("alpha", "beta"):
        (root / "services" / name).mkdir(parents=True)
        (root / "services" / name / "app.py").write_text("")
    (root / "services" / "__init__.py").write_text("")
    (root / "services" / "__main__.py").write_text(MAIN)
    (root / "requirements").symlink_to(ROOT / "requirements")
    return root


def _new(tree: Path, home: Path) -> Iterator[Mesh]:
    mesh = Mesh(tree, home, free_base())
    yield mesh
    mesh.weft("reset", "--yes")
    left = mesh.processes()
    for process in psutil.process_iter():
        if left and str(home) in " ".join(process.cmdline()):
            process.send_signal(signal.SIGKILL)
    assert not left


@pytest.fixture(scope="session")
def template(tree: Path, place: Path) -> Path:
    """A data folder that was up once: what every other test begins with, to save it the first start."""
    for mesh in _new(tree, place / "template"):
        mesh.up()
        assert mesh.weft("down").returncode == 0
        kept = mesh.home.with_name("kept")
        subprocess.run(["cp", "-a", mesh.home, kept], check=True)
    return kept


@pytest.fixture
def mesh(tree: Path, template: Path, folder: Path) -> Iterator[Mesh]:
    """A data folder of this test's own; nothing runs."""
    subprocess.run(["cp", "-a", template, folder / "home"], check=True)
    yield from _new(tree, folder / "home")


@pytest.fixture
def empty(tree: Path, folder: Path) -> Iterator[Mesh]:
    """The same before its first start."""
    yield from _new(tree, folder / "home")


@pytest.fixture(scope="module")
def running(tree: Path, template: Path, place: Path) -> Iterator[Mesh]:
    """A mesh that the tests of a module share; they leave it running."""
    for mesh in _new(tree, Path(tempfile.mkdtemp(dir=place))):
        subprocess.run(["cp", "-aT", template, mesh.home], check=True)
        mesh.up("--processes", "each")
        yield mesh
