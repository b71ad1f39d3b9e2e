"""What containers say to their Envoy by bash is what Envoy takes: asked for its health, and told to leave."""

import http.client
import json
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from envoy import bootstrap, settings
from envoy.binary import binary
from launcher import compose
from launcher.kubernetes import door
from tests.launcher.conftest import free_base, until
from tests.launcher.manifests import DEPLOY, NAMES, of

ANSWERS_S_MAX = 30.0  # A busy machine.


@pytest.fixture
def base(tmp_path: Path) -> Iterator[int]:
    """The first port of an Envoy of the file that lies in deploy/, without its services and TLS."""
    at = free_base()
    told = json.loads((DEPLOY / "base" / door.FILE).read_text())
    told |= {"host": "127.0.0.1", "services": {}, "access_log": str(tmp_path / "access.log")}
    told["ports"] = {"https": None, "mesh": at, "stats": at + 1, "admin": at + 2}
    written = bootstrap.write(settings.from_values(told), tmp_path)
    command = [binary(), "-c", written, "--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
    with subprocess.Popen(command) as process:
        until(lambda: answers(at + 1), "Envoy does not listen")
        yield at
        process.terminate()


def answers(port: int) -> bool:
    try:
        return ended(port) is None
    except OSError:
        return False


def ended(port: int) -> str | None:
    """What an answer says of its connection."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWERS_S_MAX)) as link:
        link.request("GET", "/healthz")
        return link.getresponse().getheader("connection")


def run(command: list[str], base: int) -> int:
    """A container's own command, at this Envoy's ports and without its pause."""
    ports = {compose.PORTS.stats: base + 1, compose.PORTS.admin: base + 2}
    words = [word.replace(f"sleep {door.DRAIN_S}", "true") for word in command]
    for here, there in ports.items():
        words = [word.replace(f"/{here};", f"/{there};") for word in words]
    return subprocess.run(words, check=False, capture_output=True, timeout=ANSWERS_S_MAX).returncode


def test_an_edge_is_healthy_until_it_is_told_to_leave(base: int) -> None:
    asks = compose.document(NAMES)["services"]["edge"]["healthcheck"]["test"][1:]
    [envoy] = of("Deployment", "edge")["spec"]["template"]["spec"]["containers"]
    assert run(asks, base) == 0
    assert ended(base + 1) is None
    assert run(envoy["lifecycle"]["preStop"]["exec"]["command"], base) == 0
    assert run(asks, base) != 0
    assert ended(base + 1) == "close"  # So is every connection's next answer.
