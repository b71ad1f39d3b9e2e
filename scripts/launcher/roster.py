"""Which services there are, how many processes share them, and the environment each process is given."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher import discovery, paths
from launcher.credentials import Credentials
from launcher.ports import HOST, SERVICES_MAX, Ports
from launcher.problem import Problem

EACH = "each"
ENGINES_CORES = 1  # Kept free for Envoy, PostgreSQL and NATS.


@dataclass(frozen=True)
class Group:
    """One process of services."""

    name: str
    services: tuple[str, ...]
    port: int
    metrics: int
    instance: int = 1  # Which of several that are alike.
    host: str = HOST  # Where the edge finds it.


def services(root: Path) -> list[str]:
    """A folder with an app.py is a service; nothing else registers it. Raises Problem when there is none."""
    names = sorted(path.parent.name for path in (root / "services").glob("*/app.py"))
    if not names:
        raise Problem(f"there is no service in {root / 'services'}", "check out the repository again")
    if len(names) > SERVICES_MAX:
        raise Problem(
            f"there are {len(names)} services, ports are kept for {SERVICES_MAX}", "raise SERVICES_MAX"
        )
    return names


def chosen(root: Path, environ: Mapping[str, str]) -> list[str]:
    """All services, or those that WEFT_SERVICES names: `WEFT_SERVICES=identity,audit`. Raises Problem."""
    names, wanted = services(root), [name for name in environ.get("WEFT_SERVICES", "").split(",") if name]
    if unknown := sorted(set(wanted) - set(names)):
        raise Problem(f"WEFT_SERVICES: there is no service {unknown[0]}", f"these are: {', '.join(names)}")
    return [name for name in names if not wanted or name in wanted]


def processes(text: str, count: int) -> int:
    """How many processes `count` services get. `text` is a number, `each`, or empty: the cores to spare."""
    if text == EACH:
        return count
    if text and not (text.isdigit() and int(text) > 0):
        raise Problem(f"--processes {text} is neither a number nor `{EACH}`", "for example --processes 2")
    wanted = int(text) if text else len(os.sched_getaffinity(0)) - ENGINES_CORES
    return max(1, min(wanted, count))


def groups(names: Sequence[str], count: int, ports: Ports, instances: int = 1) -> list[Group]:
    """`names` dealt to `count` processes, of each as many alike as `instances`; a process of one service
    carries its name, and its number from the second on. Raises Problem when there are too many."""
    if count * instances > SERVICES_MAX:
        raise Problem(
            f"{instances} of each of {count} processes: ports are kept for {SERVICES_MAX}",
            "choose fewer with --processes or --instances",
        )
    dealt = [tuple(names[place::count]) for place in range(count)]
    return [
        Group(
            name=_called(members, place, instance),
            services=members,
            port=ports.services + instance * count + place,
            metrics=ports.metrics + instance * count + place,
            instance=instance + 1,
        )
        for instance in range(instances)
        for place, members in enumerate(dealt)
    ]


def _called(members: tuple[str, ...], place: int, instance: int) -> str:
    name = members[0] if len(members) == 1 else f"services-{place + 1}"
    return f"{name}-{instance + 1}" if instance else name


def shared(ports: Ports) -> dict[str, str]:
    """Settings of every process that are no secret. compose.yaml is tested against the names."""
    edge = f"https://{HOST}:{ports.edge}"
    return {
        "WEFT_MESH_ADDRESS": f"{HOST}:{ports.mesh}",
        "WEFT_ISSUER": edge,
        "WEFT_EDGE_URL": edge,
        "WEFT_DEVELOPMENT": "1",
    }


def secret(group: Group, ports: Ports, credentials: Credentials) -> dict[str, str]:
    """Settings of one process that nobody else may read: it knows its own services' databases only."""
    values = {
        "WEFT_NATS_URL": f"nats://weft:{credentials.nats}@{HOST}:{ports.nats}",
        "WEFT_MESH_KEY": credentials.mesh_key,
    }
    for name in group.services:
        url = f"postgresql://{name}:{credentials.databases[name]}@{HOST}:{ports.postgres}/{name}"
        values[f"WEFT_DATABASE_URL_{name.upper()}"] = url
        if own := OWN.get(name):
            values |= own(ports, credentials)
    return values


def _identity(ports: Ports, credentials: Credentials) -> dict[str, str]:
    return {
        "WEFT_IDENTITY_ENCRYPTION_KEY": credentials.keys["identity"],
        "WEFT_IDENTITY_BOOTSTRAP_EMAIL": credentials.admin_email,
        "WEFT_IDENTITY_BOOTSTRAP_PASSWORD": credentials.admin_password,
    }


def _notification(ports: Ports, credentials: Credentials) -> dict[str, str]:
    return {
        "WEFT_NOTIFICATION_KEY": credentials.keys["notification"],
        "WEFT_NOTIFICATION_MAILBOX": "1",
        "WEFT_NOTIFICATION_MAILBOX_ADDRESS": f"{HOST}:{ports.smtp}",
    }


def _inventory(ports: Ports, credentials: Credentials) -> dict[str, str]:
    return {"WEFT_INVENTORY_ALERT_ADDRESS": credentials.admin_email}


# What a service needs of this machine beyond what every service does.
OWN: dict[str, Callable[[Ports, Credentials], dict[str, str]]] = {
    "identity": _identity,
    "inventory": _inventory,
    "notification": _notification,
}


def environment(
    group: Group, ports: Ports, credentials: Credentials, environ: Mapping[str, str]
) -> dict[str, str]:
    """The whole environment of one process. What the person has set of WEFT_* is passed on, ours wins."""
    own = {"WEFT_ADDRESS": f"{HOST}:{group.port}", "WEFT_METRICS_ADDRESS": f"{HOST}:{group.metrics}"}
    # Bytecode is kept even where the person's environment says otherwise: a start without takes 3 s more.
    kept = {name: value for name, value in environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    python = {"PYTHONUNBUFFERED": "1", "PYTHONPATH": f"{paths.root()}:{paths.root() / 'gen'}"}
    told = {**shared(ports), **discovery.settings(ports, environ), **own, **secret(group, ports, credentials)}
    return {**kept, **python, **told}
