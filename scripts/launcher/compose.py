"""compose.yaml: the same services and settings on stock images, written from what `up` starts with.

`scripts/weft compose` writes the file; `scripts/weft compose --secrets` writes deploy/secrets/, which is
never committed: an environment file for each container, and the roles and databases as SQL.
"""

import json
import os
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launcher import nats, paths, postgres, roster
from launcher.credentials import Credentials
from launcher.ports import Ports
from launcher.problem import say

POSTGRES_IMAGE, NATS_IMAGE, ENVOY_IMAGE = "postgres:18", "nats:2.15-alpine", "envoyproxy/envoy:v1.40.0"
IMAGE = "weft"
SECRETS = Path("deploy/secrets")
NATS_PASSWORD = "WEFT_NATS_PASSWORD"
EVERYWHERE = "0.0.0.0"  # Within the containers' own network; only the edge is published, on loopback.
PORTS = Ports(postgres=5432, nats=4222, monitor=8222, metrics=9464)
HEADER = "# Written by `scripts/weft compose`; edit scripts/launcher/compose.py instead.\n"
RESTART = "unless-stopped"
PROBE_S, PROBES_MAX = 2, 30  # A first start migrates; it has a minute.

Service = dict[str, Any]


def compose(arguments: Namespace) -> int:
    """Writes the file, or the secrets it refers to."""
    names = roster.services(paths.root())
    if arguments.secrets:
        folder = paths.root() / SECRETS
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        for file, content in secrets(names, Credentials.of(folder / "secrets.json", names)).items():
            with os.fdopen(
                os.open(folder / file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w"
            ) as opened:
                opened.write(content)
        say(f"{SECRETS}/ holds the secrets that compose.yaml refers to")
        return 0
    (paths.root() / "compose.yaml").write_text(text(names))
    say("compose.yaml is written; `scripts/weft compose --secrets`, then `docker compose up`")
    return 0


def text(names: list[str]) -> str:
    """The whole file."""
    import yaml

    return HEADER + str(yaml.safe_dump(document(names), sort_keys=False, width=110))


def document(names: list[str]) -> dict[str, Any]:
    services: dict[str, Service] = {
        "postgres": _postgres(names),
        "databases": _databases(),
        "nats": _nats(),
        **{name: _service(name) for name in names},
        "edge-files": _edge_files(),
        "edge": _edge(names),
    }
    return {
        "name": "weft",
        "services": services,
        "configs": {
            "nats.conf": {"content": _nats_configuration()},
            "edge.json": {"content": json.dumps(edge_values(names), indent=2) + "\n"},
        },
        "volumes": {"postgres": {}, "nats": {}, "edge": {}, "certificates": {}},
    }


def _postgres(names: list[str]) -> Service:
    flags = [f"{name}={value}" for name, value in postgres.settings(len(names)).items()]
    return {
        "image": POSTGRES_IMAGE,
        "command": ["postgres", *(part for flag in flags for part in ("-c", flag))],
        "env_file": [f"{SECRETS}/postgres.env"],
        "volumes": ["postgres:/var/lib/postgresql"],
        "healthcheck": _health(["CMD", "pg_isready", "-h", "127.0.0.1", "-U", postgres.SUPERUSER]),
        "stop_signal": "SIGINT",
        "shm_size": "256mb",
        "restart": RESTART,
    }


def _databases() -> Service:
    """Roles and databases, at each start: a new service gets its own."""
    psql = ["psql", "-h", "postgres", "-U", postgres.SUPERUSER, "-X", "-q", "-v", "ON_ERROR_STOP=1"]
    return {
        "image": POSTGRES_IMAGE,
        "command": [*psql, "-f", "/provision.sql"],
        "env_file": [f"{SECRETS}/databases.env"],
        "volumes": [f"./{SECRETS}/provision.sql:/provision.sql:ro"],
        "depends_on": {"postgres": {"condition": "service_healthy"}},
        "restart": "on-failure:3",
    }


def _nats() -> Service:
    return {
        "image": NATS_IMAGE,
        "command": ["--config", "/nats.conf"],
        "env_file": [f"{SECRETS}/nats.env"],
        "configs": [{"source": "nats.conf", "target": "/nats.conf"}],
        "volumes": ["nats:/data"],
        "healthcheck": _health(["CMD", "wget", "-qO-", f"http://127.0.0.1:{PORTS.monitor}/healthz"]),
        "restart": RESTART,
    }


def _service(name: str) -> Service:
    ready = f"import urllib.request as u; u.urlopen('http://127.0.0.1:{PORTS.metrics}/ready', timeout=2)"
    return {
        "image": IMAGE,
        "build": {"context": ".", "dockerfile": "deploy/Dockerfile"},
        "command": [name],
        "environment": environment(name),
        "env_file": [f"{SECRETS}/{name}.env"],
        "depends_on": {
            "databases": {"condition": "service_completed_successfully"},
            "nats": {"condition": "service_healthy"},
        },
        "healthcheck": _health(["CMD", "python", "-c", ready]),
        "stop_grace_period": "15s",
        "read_only": True,
        "tmpfs": ["/tmp"],
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "restart": RESTART,
    }


def environment(name: str) -> dict[str, str]:
    """What a service is told that is no secret."""
    own = {
        "WEFT_ADDRESS": f"{EVERYWHERE}:{PORTS.services}",
        "WEFT_METRICS_ADDRESS": f"{EVERYWHERE}:{PORTS.metrics}",
    }
    mailbox = {
        "WEFT_NOTIFICATION_MAILBOX": "1",
        "WEFT_NOTIFICATION_MAILBOX_ADDRESS": f"127.0.0.1:{PORTS.smtp}",
    }
    return {
        **roster.shared(PORTS),
        "WEFT_MESH_ADDRESS": f"edge:{PORTS.mesh}",
        **own,
        **(mailbox if name == "notification" else {}),
    }


def _edge_files() -> Service:
    """Envoy's configuration and the development certificate, written before each start of the edge."""
    return {
        "image": IMAGE,
        "build": {"context": ".", "dockerfile": "deploy/Dockerfile"},
        "entrypoint": ["python", "-m", "envoy", "--out", "/edge", "--settings", "/edge.json"],
        "configs": [{"source": "edge.json", "target": "/edge.json"}],
        "volumes": ["edge:/edge", "certificates:/certificates"],
        "user": "0:0",  # Fresh volumes belong to root.
    }


def _edge(names: list[str]) -> Service:
    said = r"GET /healthz HTTP/1.1\r\nHost: edge\r\nConnection: close\r\n\r\n"  # Envoy refuses 1.0.
    ask = f"exec 3<>/dev/tcp/127.0.0.1/{PORTS.stats}; printf '{said}' >&3"
    return {
        "image": ENVOY_IMAGE,
        "command": ["envoy", "-c", "/edge/envoy.json", "--log-level", "warning"],
        "volumes": ["edge:/edge:ro", "certificates:/certificates:ro"],
        "ports": [f"127.0.0.1:{port}:{port}" for port in (PORTS.edge, PORTS.plain)],
        "depends_on": {
            "edge-files": {"condition": "service_completed_successfully"},
            **{name: {"condition": "service_started"} for name in names},
        },
        "healthcheck": _health(["CMD", "bash", "-c", f"{ask}; head -1 <&3 | grep -q ' 200 '"]),
        "user": "0:0",  # The key of the development certificate is its owner's only.
        "restart": RESTART,
    }


def _health(test: list[str]) -> Service:
    return {"test": test, "interval": f"{PROBE_S}s", "timeout": f"{PROBE_S}s", "retries": PROBES_MAX}


def _nats_configuration() -> str:
    """As nats.write; the password comes from the container's environment."""
    return (
        _doubled(
            {
                "server_name": "weft",
                "listen": f"{EVERYWHERE}:{PORTS.nats}",
                "http": f"127.0.0.1:{PORTS.monitor}",
                "jetstream": {"store_dir": "/data", **nats.JETSTREAM},
                **nats.SETTINGS,
                **nats.accounts(NATS_PASSWORD),
            }
        )
        .replace("$SYS", "$$SYS")
        .replace(f'"{NATS_PASSWORD}"', f"$${NATS_PASSWORD}")
    )


def _doubled(values: Mapping[str, Any]) -> str:
    """NATS's own notation, a line for each setting."""
    return "".join(f"{name}: {json.dumps(value)}\n" for name, value in values.items())


def edge_values(names: list[str]) -> dict[str, Any]:
    """The settings file of `python -m envoy`."""
    return {
        "services": {name: [f"{name}:{PORTS.services}"] for name in names},
        "host": EVERYWHERE,
        "ports": {"https": PORTS.edge, "http": PORTS.plain, "mesh": PORTS.mesh},
        "issuer": roster.shared(PORTS)["WEFT_ISSUER"],
        "certificates": "/certificates",
        "access_log": "/dev/stdout",
        "development": True,
    }


def secrets(names: list[str], known: Credentials) -> dict[str, str]:
    """The files of deploy/secrets/."""
    files = {
        "postgres.env": {"POSTGRES_PASSWORD": known.postgres},
        "databases.env": {"PGPASSWORD": known.postgres},
        "nats.env": {NATS_PASSWORD: known.nats},
    }
    for name in names:
        values = roster.secret(roster.Group(name, (name,), 0, 0), PORTS, known)
        kept = {key: value for key, value in values.items() if key not in environment(name)}
        kept["WEFT_NATS_URL"] = f"nats://{nats.USER}:{known.nats}@nats:{PORTS.nats}"
        url = f"postgresql://{name}:{known.databases[name]}@postgres:{PORTS.postgres}/{name}"
        kept[f"WEFT_DATABASE_URL_{name.upper()}"] = url
        files[f"{name}.env"] = kept
    told = {
        file: "".join(f"{key}={value}\n" for key, value in values.items()) for file, values in files.items()
    }
    return told | {"provision.sql": postgres.provision({name: known.databases[name] for name in names})}
