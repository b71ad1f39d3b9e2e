"""A service as Kubernetes runs it: Deployment, Service, account, autoscaler, disruption budget, monitor."""

import json
from dataclasses import dataclass
from typing import Any

from launcher import compose, nats
from launcher.kubernetes import terms
from launcher.kubernetes.terms import PORTS, Key, Manifest

# From a pod's end being decided to no new call for it: the edge looks names up every 5 s, cluster DNS keeps
# them for 5 s, and the rest is for the endpoints to be told.
SETTLE_S = 12
DRAIN_S = 15  # As compose.yaml's stop_grace_period: WEFT_DRAIN_S, and what ending takes.
START_S = 300  # A first start migrates; a large table may take minutes. Then it is started again.
REPLICAS_MIN = 2  # One may be moved while the other answers.
REPLICAS_MAX = 4  # PostgreSQL has room for so many of each: its max_connections is computed from this.
BUSY_PERCENT = 70  # Of the processor that is asked for; a new pod takes half a minute to help.
SHRINK_S = 300  # Of little to do before a pod is taken away.
TMP_MAX = "256Mi"  # Documents being set, an import being read.


@dataclass(frozen=True)
class Size:
    """What a pod asks for, and the memory at which it is ended.

    There is no limit of the processor: it would stall calls while the node idles.
    """

    cpu: str
    memory: str
    memory_max: str

    def resources(self) -> Manifest:
        return {
            "requests": {"cpu": self.cpu, "memory": self.memory},
            "limits": {"memory": self.memory_max},
        }


USUAL = Size("100m", "192Mi", "512Mi")
SIZES = {
    "billing": Size("200m", "256Mi", "1Gi"),  # Sets documents: fonts and XML in memory.
    "identity": Size("500m", "384Mi", "768Mi"),  # Two Argon2 computations at once, 64 MiB each.
}
# Where jobs run apart, as deploy/kubernetes/worker.yaml has it.
ELSEWHERE = {"worker": {"WEFT_WORKER_LOCAL": "0"}}


def manifests(name: str) -> list[Manifest]:
    """All of one service but its network policy."""
    return [
        terms.manifest("v1", "ServiceAccount", name, automountServiceAccountToken=False),
        deployment(name),
        service(name),
        autoscaler(name),
        budget(name),
        monitor(name),
    ]


def deployment(name: str) -> Manifest:
    """Its number of replicas is the autoscaler's. The track keeps a canary's pods out of it."""
    track = {terms.TRACK: terms.STABLE}
    return terms.manifest(
        "apps/v1",
        "Deployment",
        name,
        spec={
            "revisionHistoryLimit": 5,
            "strategy": ROLLING,
            "selector": {"matchLabels": {"app.kubernetes.io/name": name, **track}},
            "template": {
                "metadata": {"labels": {**terms.labels(name), **track}},
                "spec": pod(name, [_container(name)], [TMP], SETTLE_S + DRAIN_S),
            },
        },
    )


def canary(stable: Manifest, image: str) -> Manifest:
    """A second Deployment beside one that runs: one pod of another version, which the Service counts in."""
    name, metadata = f"{stable['metadata']['name']}-{terms.CANARY}", stable["metadata"]
    kept = {key: metadata[key] for key in ("namespace", "labels") if key in metadata}
    spec = json.loads(json.dumps(stable["spec"]))
    spec["replicas"] = 1
    spec["selector"]["matchLabels"][terms.TRACK] = terms.CANARY
    spec["template"]["metadata"]["labels"][terms.TRACK] = terms.CANARY
    spec["template"]["spec"]["containers"][0]["image"] = image
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, **kept}, "spec": spec}


def pod(name: str, containers: list[Manifest], volumes: list[Manifest], grace_s: int) -> Manifest:
    """What the pods of services and of the edge have in common."""
    spread = [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": {"app.kubernetes.io/name": name}},
        }
        for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    ]
    return {
        "serviceAccountName": name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,  # Else each Service adds variables to every container.
        "terminationGracePeriodSeconds": grace_s,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": terms.UID,
            "fsGroup": terms.UID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": spread,
        "containers": containers,
        "volumes": volumes,
    }


# A new pod is ready before an old one ends.
ROLLING: Manifest = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
TMP: Manifest = {"name": "tmp", "emptyDir": {"sizeLimit": TMP_MAX}}
LOCKED: Manifest = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def _container(name: str) -> Manifest:
    return {
        "name": name,
        "image": compose.IMAGE,
        "args": [name],  # As compose.yaml's command: the image's entry point hosts what it is told.
        "envFrom": [{"configMapRef": {"name": terms.SETTINGS}}],
        "env": environment(name),
        "ports": [
            {"name": "grpc", "containerPort": PORTS.services},
            {"name": "metrics", "containerPort": PORTS.metrics},
        ],
        "startupProbe": _probe("live", every_s=2, failures=START_S // 2),
        "readinessProbe": _probe("", every_s=5, failures=2),
        "livenessProbe": _probe("live", every_s=10, failures=3),
        "lifecycle": {"preStop": {"sleep": {"seconds": SETTLE_S}}},
        "resources": SIZES.get(name, USUAL).resources(),
        "securityContext": LOCKED,
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }


def _probe(asked: str, *, every_s: int, failures: int) -> Manifest:
    """grpc.health.v1: `live` is the process alone, the empty name all that it hosts (docs/operating.md)."""
    return {
        "grpc": {"port": PORTS.services, "service": asked},
        "periodSeconds": every_s,
        "timeoutSeconds": 2,
        "failureThreshold": failures,
    }


def environment(name: str) -> list[Manifest]:
    """Secrets first: a value can only name what stands before it."""
    own = compose.environment(name)
    told = {key: own[key] for key in ("WEFT_ADDRESS", "WEFT_METRICS_ADDRESS", "WEFT_MESH_ADDRESS")}
    values = {**told, **urls(name), **ELSEWHERE.get(name, {})}
    references = [key.reference() for key in terms.keys(name)]
    return [*references, *({"name": key, "value": value} for key, value in values.items())]


def urls(name: str) -> dict[str, str]:
    """Where NATS and the service's database are; the kubelet puts the passwords in."""
    database = f"{_later(terms.database_password(name))}@{terms.POSTGRES_HOST}:{PORTS.postgres}/{name}"
    return {
        "WEFT_NATS_URL": f"nats://{nats.USER}:{_later(terms.NATS_PASSWORD)}@{terms.NATS}:{PORTS.nats}",
        f"WEFT_DATABASE_URL_{name.upper()}": f"postgresql://{name}:{database}?sslmode=require",
    }


def _later(key: Key) -> str:
    return f"$({key.variable})"


def service(name: str) -> Manifest:
    """Without an address of its own: its name stands for all pods, and the edge balances among them."""
    return terms.manifest(
        "v1",
        "Service",
        name,
        spec={
            "clusterIP": "None",
            "selector": {"app.kubernetes.io/name": name, "app.kubernetes.io/part-of": "weft"},
            "ports": [
                {
                    "name": "grpc",
                    "port": PORTS.services,
                    "targetPort": "grpc",
                    "appProtocol": "kubernetes.io/h2c",
                },
                {"name": "metrics", "port": PORTS.metrics, "targetPort": "metrics"},
            ],
        },
    )


def autoscaler(name: str, component: str = terms.SERVICE) -> Manifest:
    busy = {"type": "Utilization", "averageUtilization": BUSY_PERCENT}
    return terms.manifest(
        "autoscaling/v2",
        "HorizontalPodAutoscaler",
        name,
        component,
        spec={
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicas": REPLICAS_MIN,
            "maxReplicas": REPLICAS_MAX,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": busy}}],
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": SHRINK_S}},
        },
    )


def budget(name: str, component: str = terms.SERVICE) -> Manifest:
    """Nodes are emptied one pod of a service at a time; a pod that is not ready holds nobody up."""
    return terms.manifest(
        "policy/v1",
        "PodDisruptionBudget",
        name,
        component,
        spec={
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": {"app.kubernetes.io/name": name}},
        },
    )


def monitor(name: str, component: str = terms.SERVICE, port: str = "metrics") -> Manifest:
    """For the Prometheus operator."""
    endpoint: dict[str, Any] = {"port": port, "path": "/metrics", "interval": "15s"}
    return terms.manifest(
        "monitoring.coreos.com/v1",
        "ServiceMonitor",
        name,
        component,
        spec={"selector": {"matchLabels": terms.labels(name, component)}, "endpoints": [endpoint]},
    )
