"""PostgreSQL for CloudNativePG, NATS for its chart: with the settings that `up` starts them with."""

from typing import Any

from launcher import compose, nats, postgres
from launcher.kubernetes import network, terms, workload
from launcher.kubernetes.terms import POSTGRES, Manifest

API = "postgresql.cnpg.io/v1"
IMAGE = f"ghcr.io/cloudnative-pg/postgresql:{postgres.MAJOR}"
INSTANCES = 3  # A primary and two that follow; a commit waits for one of them.
SERVERS = 3  # Of NATS: a stream on three outlives one.
# An acknowledged commit is on two machines, and only one that has it may become the primary.
SYNCHRONOUS = {"method": "any", "number": 1, "dataDurability": "required", "failoverQuorum": True}
# As the launcher's initdb; databases are made after it.
CULTURE = {"encoding": "UTF8", "localeProvider": "builtin", "builtinLocale": "C.UTF-8"}
SURGE = 1  # While a version is rolled out, each service has a pod more.
HARMLESS: Manifest = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
NATS_UID = 1000  # Its image runs as root unless told otherwise.


def cluster(names: list[str]) -> list[Manifest]:
    """The cluster, and for each service its role and its database, which nobody else may enter."""
    pods = len(names) * (workload.REPLICAS_MAX + SURGE)
    return [
        {
            "apiVersion": API,
            "kind": "Cluster",
            "metadata": {"name": POSTGRES},
            "spec": {
                "instances": INSTANCES,
                "imageName": IMAGE,
                "bootstrap": {"initdb": CULTURE},
                "postgresql": {
                    "parameters": postgres.settings(pods),
                    "synchronous": SYNCHRONOUS,
                    "pg_hba": [rule for name in names for rule in _rules(name)],
                },
                "managed": {"roles": [_role(name) for name in names]},
                "storage": {"size": "20Gi"},
                "walStorage": {"size": "10Gi"},
                "resources": workload.Size("1", "2Gi", "4Gi").resources(),
                "affinity": {"topologyKey": "topology.kubernetes.io/zone"},
            },
        },
        *(_database(name) for name in names),
        network.of_postgres(),
        _monitor(),
    ]


def _rules(name: str) -> list[str]:
    """A role enters its own database, by TLS, and no other."""
    return [f"hostssl {name} {name} all scram-sha-256", f"host all {name} all reject"]


def _role(name: str) -> Manifest:
    secret = terms.database_password(name).secret
    return {"name": name, "ensure": "present", "login": True, "passwordSecret": {"name": secret}}


def _database(name: str) -> Manifest:
    """`retain`: taking the resource away leaves the data."""
    spec = {"name": name, "owner": name, "cluster": {"name": POSTGRES}, "databaseReclaimPolicy": "retain"}
    return {"apiVersion": API, "kind": "Database", "metadata": {"name": name}, "spec": spec}


def _monitor() -> Manifest:
    """For the Prometheus operator; `metrics` is the port's name in CloudNativePG's pods."""
    spec = {
        "selector": {"matchLabels": {"cnpg.io/cluster": POSTGRES}},
        "podMetricsEndpoints": [{"port": "metrics", "interval": "15s"}],
    }
    metadata = {"name": POSTGRES}
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": metadata,
        "spec": spec,
    }


def nats_values() -> dict[str, Any]:
    """For the chart `nats` of nats.io, from 1.2 on; `<< >>` is its way to say that no quotes are wanted."""
    password = "<< $" + terms.NATS_PASSWORD.variable + " >>"
    return {
        "fullnameOverride": terms.NATS,
        "config": {
            "cluster": {"enabled": True, "replicas": SERVERS},
            "jetstream": _jetstream(),
            "merge": {**nats.SETTINGS, **nats.accounts(password)},
        },
        "container": {
            "image": {"tag": compose.NATS_IMAGE.rpartition(":")[2]},
            "env": {
                terms.NATS_PASSWORD.variable: {"valueFrom": terms.NATS_PASSWORD.reference()["valueFrom"]}
            },
            "merge": {
                "resources": workload.Size("500m", "512Mi", "1Gi").resources(),
                "securityContext": HARMLESS,
            },
        },
        "reloader": {"enabled": True, "merge": {"securityContext": HARMLESS}},
        "promExporter": {
            "enabled": True,
            "podMonitor": {"enabled": True},
            "merge": {"securityContext": HARMLESS},
        },
        "natsBox": {"enabled": False},
        "podDisruptionBudget": {"enabled": True},
        "podTemplate": _pods(),
    }


def _jetstream() -> Manifest:
    memory, disk = (_binary(nats.JETSTREAM[f"max_{kind}_store"]) for kind in ("memory", "file"))
    return {
        "enabled": True,
        "memoryStore": {"enabled": True, "maxSize": memory},
        # The volume is twice what is kept: while a stream is compacted, it is there twice.
        "fileStore": {"enabled": True, "maxSize": disk, "pvc": {"enabled": True, "size": "20Gi"}},
        "merge": {"sync_interval": nats.JETSTREAM["sync_interval"]},
    }


def _pods() -> Manifest:
    """Each server on a machine of its own, none as root."""
    security = {
        "runAsNonRoot": True,
        "runAsUser": NATS_UID,
        "fsGroup": NATS_UID,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    apart = {"kubernetes.io/hostname": {"maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}}
    return {"topologySpreadConstraints": apart, "merge": {"spec": {"securityContext": security}}}


def _binary(size: object) -> str:
    """Bytes in the largest unit that is whole: as a number, Helm would print it with an exponent."""
    count, units = int(str(size)), ["", "Ki", "Mi", "Gi"]
    while count % 1024 == 0 and len(units) > 1:
        count //= 1024
        units.pop(0)
    return f"{count}{units[0]}"
