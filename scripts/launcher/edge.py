"""Envoy from its wheel: what the envoy package is told, and how Envoy is started and asked."""

import hashlib
import http.client
import json
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from launcher import discovery, paths
from launcher.ports import HOST, Ports
from launcher.roster import Group

ASK_S_MAX = 2.0
OK = 200
WORKERS_MAX = 4  # Beyond this the services, not Envoy, are what is full.


def write_settings(folder: Path, home: Path, groups: Sequence[Group], ports: Ports) -> Path:
    """The settings file of `python -m envoy`."""
    values = {
        "services": endpoints(groups),
        "host": HOST,
        "ports": {
            "https": ports.edge,
            "http": ports.plain,
            "mesh": ports.mesh,
            "admin": ports.admin,
            "stats": ports.stats,
        },
        "issuer": f"https://{HOST}:{ports.edge}",
        "certificates": str(home / "certificates"),
        "development": True,
        "access_log": str(home / "logs" / "access.log"),
        "rate_factor": int(os.environ.get("WEFT_RATE_FACTOR", "1")),  # Benchmarks raise it.
        **global_limits(os.environ),
    }
    if discovery.ads(os.environ):
        values["discovery"] = discovery.ADS
    path = folder / "settings.json"
    path.write_text(json.dumps(values, indent=2))
    return path


def endpoints(groups: Sequence[Group]) -> dict[str, list[str]]:
    """By service: where each of its instances answers."""
    found: dict[str, list[str]] = {}
    for group in groups:
        for name in group.services:
            found.setdefault(name, []).append(f"{group.host}:{group.port}")
    return found


def global_limits(environ: Mapping[str, str]) -> dict[str, dict[str, list[str]]]:
    """Who asks for limits that hold over all edges. The service reads the same variables."""
    if environ.get("WEFT_EDGE_RATELIMIT", "") != "1":
        return {}
    found = {
        "closed": environ.get("WEFT_RATELIMIT_CLOSED", ""),
        "headers": environ.get("WEFT_RATELIMIT_HEADERS", ""),
        "routes": environ.get("WEFT_EDGE_RATELIMIT_ROUTES", ""),
    }
    lists = {name: [each.strip() for each in text.split(",") if each.strip()] for name, text in found.items()}
    return {"global_limits": {name: values for name, values in lists.items() if values}}


def fingerprint(settings: Path) -> str:
    """Of everything the configuration is made from. It holds for a day: certificates age without changing."""
    root = paths.root()
    sources = [root / "gen" / "envoy", root / "gen" / "openapi", root / "gen" / "web", root / "web" / "pages"]
    found = [
        file for source in (root / "envoy", *sources) for file in source.rglob("*") if file.suffix != ".pyc"
    ]
    facts = [(str(file), file.stat().st_mtime_ns) for file in sorted(found)]
    day = datetime.now(UTC).date().isoformat()
    return hashlib.sha256(repr((settings.read_text(), sys.prefix, day, facts)).encode()).hexdigest()


def generate(folder: Path, settings: Path) -> list[str]:
    return [sys.executable, "-m", "envoy", "--out", str(folder), "--settings", str(settings)]


def program() -> Path:
    return paths.site_packages() / "envoy" / "_bin" / "envoy"


def command(folder: Path) -> list[str]:
    workers = max(1, min(len(os.sched_getaffinity(0)) // 2, WORKERS_MAX))
    quiet = ["--log-level", "warning", "--disable-hot-restart"]  # Hot restart shares memory between meshes.
    return [str(program()), "-c", str(folder / "envoy.json"), "--concurrency", str(workers), *quiet]


def answer(port: int, path: str) -> int:
    """The status of a GET, 0 when nobody answers. A proxy of the environment is not asked."""
    link = http.client.HTTPConnection(HOST, port, timeout=ASK_S_MAX)
    try:
        link.request("GET", path)
        return link.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        link.close()


def unhealthy(port: int, services: Sequence[str]) -> str:
    """Which services Envoy holds for unhealthy, said for people; empty when it has none."""
    if answer(port, "/healthz") == OK:
        return ""
    sick = [name for name in services if answer(port, f"/healthz/{name}") != OK]
    return f"waits for {', '.join(sick)}" if len(sick) < len(services) else "waits for the services"
