"""nats-servers with configurations of their own, for the tests that end, pause or guard them."""

import atexit
import json
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.servers import free_port

START_S_MAX = 20.0  # A loaded machine starts one within a second or two.


@dataclass
class Broker:
    """One nats-server, which can be started again where it was."""

    folder: Path
    port: int
    config: dict[str, Any]
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> "Broker":
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "nats.conf"
        store = {"store_dir": str(self.folder / "store"), "max_file_store": 20 * 1024**3}
        values = {"listen": f"127.0.0.1:{self.port}", "jetstream": store, **self.config}
        path.write_text(json.dumps(values))
        with (self.folder / "log").open("ab") as log:
            program = str(Path(sys.executable).parent / "nats-server")
            self.process = subprocess.Popen([program, "-c", str(path)], stdout=log, stderr=log)
        atexit.register(self.process.kill)
        _started.append(self)
        ends = time.monotonic() + START_S_MAX
        while not _listens(self.port):
            if self.process.poll() is not None or time.monotonic() > ends:
                raise RuntimeError((self.folder / "log").read_text())
            time.sleep(0.01)
        return self

    def kill(self) -> None:
        """As a crash does."""
        assert self.process
        self.process.kill()
        self.process.wait()

    def signal(self, number: int) -> None:
        assert self.process
        self.process.send_signal(number)


_started: list[Broker] = []


def end_all() -> None:
    """Those that a test has left."""
    for each in _started:
        each.kill()
    _started.clear()


def broker(folder: Path, **config: Any) -> Broker:
    """Started on a port of its own."""
    return Broker(folder, free_port(), config).start()


def cluster(folder: Path, size: int = 3) -> list[Broker]:
    """Members that know each other; JetStream may take a moment to choose its leader."""
    routes = [free_port() for _ in range(size)]
    members = []
    for n, route in enumerate(routes):
        others = [f"nats://127.0.0.1:{each}" for each in routes if each != route]
        config = {
            "server_name": f"n{n}",
            "cluster": {"name": "three", "listen": f"127.0.0.1:{route}", "routes": others},
        }
        members.append(broker(folder / f"n{n}", **config))
    return members


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def certificate(folder: Path) -> Path:
    """Of 127.0.0.1, signed by itself; with its key in one file."""
    folder.mkdir(parents=True, exist_ok=True)
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=True)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, encoding = folder / "server.pem", serialization.Encoding.PEM
    plain, form = serialization.NoEncryption(), serialization.PrivateFormat.PKCS8
    pem.write_bytes(made.public_bytes(encoding) + key.private_bytes(encoding, form, plain))
    return pem
