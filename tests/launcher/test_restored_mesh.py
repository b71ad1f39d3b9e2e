"""A real mesh that goes back to a moment agrees with itself: what happened is known everywhere, once."""

import json
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from tests import meshes
from tests.launcher.conftest import until
from tests.meshes import Mesh

SERVICES = ("audit", "identity", "notification")
SETTINGS = {"WEFT_SERVICES": ",".join(SERVICES), "WEFT_PROCESSES": "each"}
PEOPLE = "select count(*) from person"


def ask(home: Path, service: str, sql: str) -> list[str]:
    done = meshes.weft(home, "psql", service, "-At", "-c", sql, settings=SETTINGS)
    assert done.returncode == 0, done.stderr
    return sorted(done.stdout.split())


def register(mesh: Mesh, names: range) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{mesh.ports['plain']}") as client:
        for n in names:
            body = {"email": f"p{n}@example.com", "password": "correct horse battery staple"}
            answer = client.post("/v1/registrations", json={**body, "profile": {"display_name": f"P{n}"}})
            assert answer.status_code == 200, answer.text


def announced(home: Path) -> list[str]:
    """Ids of all events of all services; audit writes down all but its own anchors."""
    sql = "select id from event where type <> 'weft.audit.v1.ChainAnchored'"
    return sorted(one for name in SERVICES for one in ask(home, name, sql))


def trail(home: Path) -> list[str]:
    """Those that audit has an entry for."""
    return ask(home, "audit", "select event_id from entry")


@contextmanager
def restored(source: Mesh, at: str) -> Iterator[Path]:
    home = Path(tempfile.mkdtemp(prefix="weft-mesh-", dir="/var/tmp"))
    home.chmod(0o755)
    try:
        folder = str(source.home / "backups")
        done = meshes.weft(home, "restore", "--at", at, "--from", folder, settings=SETTINGS)
        assert done.returncode == 0, done.stdout + done.stderr
        done = meshes.weft(home, "up", "--port-base", str(meshes.free_base()), settings=SETTINGS)
        assert done.returncode == 0, done.stdout + done.stderr
        yield home
    finally:
        meshes.weft(home, "reset", "--yes", settings=SETTINGS)
        shutil.rmtree(home, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_audit_had_not_heard_at_the_moment_it_hears_once() -> None:
    with meshes.running(settings=SETTINGS) as mesh:
        register(mesh, range(5))
        until(lambda: trail(mesh.home) == announced(mesh.home), "audit never had them all")
        done = mesh.weft("backup")
        assert done.returncode == 0, done.stdout + done.stderr
        register(mesh, range(5, 10))
        audit = mesh.parts()["audit"]["pid"]
        os.kill(audit, signal.SIGSTOP)
        register(mesh, range(10, 15))
        people = ask(mesh.home, "identity", PEOPLE)
        moment = datetime.now(UTC).isoformat()
        os.kill(audit, signal.SIGCONT)
        register(mesh, range(15, 20))
        with restored(mesh, moment) as home:
            assert ask(home, "identity", PEOPLE) == people
            until(lambda: trail(home) == announced(home), "audit never had them all again")
            sign_in(home)


def sign_in(home: Path) -> None:
    """The administrator's token is known to the edge: keys that only NATS had are there again."""
    secrets = json.loads((home / "secrets.json").read_text())
    port = json.loads((home / "run" / "state.json").read_text())["ports"]["plain"]
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        admin = {"email": secrets["admin_email"], "password": secrets["admin_password"]}
        pair = client.post("/v1/sessions", json=admin)
        assert pair.status_code == 200, pair.text
        me = client.get("/v1/me", headers={"authorization": f"Bearer {pair.json()['tokens']['accessToken']}"})
        assert me.status_code == 200, me.text
