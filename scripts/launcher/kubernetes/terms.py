"""What all manifests share: names, labels, ports, and the secrets that each service wants."""

from dataclasses import dataclass
from typing import Any

from launcher import compose, nats

Manifest = dict[str, Any]

NAMESPACE = "weft"
EDGE, POSTGRES, NATS = "edge", "postgres", "nats"
POSTGRES_HOST = f"{POSTGRES}-rw"  # CloudNativePG's name for whoever is primary.
PORTS = compose.PORTS
# Of the chart and of CloudNativePG: among NATS servers, to the operator, to Prometheus.
PEERS = {"nats": 6222, "nats_metrics": 7777, "pg_status": 8000, "pg_metrics": 9187}
EXAMPLE = "https://api.example.com"  # What an overlay replaces: where the edge is.
SETTINGS = "settings"  # The ConfigMap of what is no secret and the same for all.
STABLE, CANARY = "stable", "canary"
TRACK = "weft/track"  # Tells two Deployments of one service apart; its Service takes the pods of both.
COMPONENT = "app.kubernetes.io/component"
SERVICE, WORKER = "service", "worker"
UID = 10001  # Of deploy/Dockerfile.
MONITORING = "monitoring"  # The namespace that Prometheus and the collector of traces are in.


@dataclass(frozen=True)
class Key:
    """One value that a container is given from a Secret."""

    variable: str  # What the container calls it.
    secret: str
    key: str
    doc: str
    optional: bool = False  # The pod starts without it.

    def reference(self) -> Manifest:
        source: Manifest = {"name": self.secret, "key": self.key}
        if self.optional:
            source["optional"] = True
        return {"name": self.variable, "valueFrom": {"secretKeyRef": source}}


def _own(service: str, name: str, doc: str, *, optional: bool = False) -> Key:
    variable = f"WEFT_{service.upper()}_{name}"
    return Key(variable, service, variable, doc, optional)


MESH_KEY = Key("WEFT_MESH_KEY", "mesh", "WEFT_MESH_KEY", "signs calls between services: 32 bytes or more")
NATS_PASSWORD = Key("NATS_PASSWORD", "mesh", "NATS_PASSWORD", f"of NATS's user `{nats.USER}`")
SEALS = "seals what it keeps in its rows: 32 characters or more"
# Which services want more than the mesh's key and two passwords. A key that settings let be derived from the
# mesh key is asked for here: who changes the mesh key would otherwise lose what was sealed.
OWN: dict[str, tuple[Key, ...]] = {
    "audit": (_own("audit", "ANCHOR_KEY", "signs anchors: an Ed25519 seed, 32 bytes in base64"),),
    "identity": (
        _own("identity", "ENCRYPTION_KEY", "seals private keys: 32 bytes in base64"),
        _own("identity", "BOOTSTRAP_EMAIL", "of the first administrator, for the first start", optional=True),
        _own("identity", "BOOTSTRAP_PASSWORD", "theirs", optional=True),
    ),
    "inventory": (_own("inventory", "ALERT_ADDRESS", "who is told of stock that runs low", optional=True),),
    "ledger": (_own("ledger", "KEY", SEALS),),
    "notification": (
        _own("notification", "KEY", SEALS),
        _own("notification", "SMTP_PASSWORD", "at the mail relay", optional=True),
    ),
    "order": (_own("order", "KEY", SEALS),),
    "payment": (
        _own("payment", "KEY", SEALS),
        _own("payment", "STRIPE_API_KEY", "ours at the gateway of cards", optional=True),
        _own("payment", "STRIPE_WEBHOOK_SECRET", "what it signs its webhooks with", optional=True),
        _own("payment", "SANDBOX_WEBHOOK_SECRET", "the same of the sandbox", optional=True),
    ),
    "registry": (
        _own("registry", "KEY", "seals the mesh's authorities: 32 characters or more", optional=True),
        _own("registry", "AUTHORITY", "an outside authority's chain, PEM", optional=True),
        _own("registry", "AUTHORITY_KEY", "its key, PEM", optional=True),
    ),
    "scheduler": (_own("scheduler", "ENCRYPTION_KEY", SEALS),),
}


def database_password(service: str) -> Key:
    """Also CloudNativePG's: it gives the role this password."""
    doc = "of the service's role (beside `username`): letters, digits, `-` and `_`, as it stands in a URL"
    return Key("DATABASE_PASSWORD", f"database-{service}", "password", doc)


def keys(service: str) -> list[Key]:
    """All that a service's container is given from Secrets."""
    return [MESH_KEY, NATS_PASSWORD, database_password(service), *OWN.get(service, ())]


def labels(name: str, component: str = SERVICE) -> dict[str, str]:
    return {"app.kubernetes.io/name": name, "app.kubernetes.io/part-of": "weft", COMPONENT: component}


def manifest(api: str, kind: str, name: str, component: str = SERVICE, **rest: Any) -> Manifest:
    """One resource in the order that people write it."""
    return {
        "apiVersion": api,
        "kind": kind,
        "metadata": {"name": name, "labels": labels(name, component)},
        **rest,
    }
