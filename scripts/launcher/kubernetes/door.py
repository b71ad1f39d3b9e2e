"""The edge: Envoy in two pods or more, its configuration written by an init container from `edge.json`."""

import json

from launcher import compose
from launcher.kubernetes import network, terms, workload
from launcher.kubernetes.terms import EDGE, PORTS, Manifest

CERTIFICATE = "edge-certificate"  # A Secret of type kubernetes.io/tls.
FILE = "edge.json"
ENVOY_UID = 101  # The user `envoy` of its image.
WORKERS = 2  # Threads of Envoy; else there is one for each of the node's cores.
# Health fails first, and each answer then tells its connection to end; 5 s until nobody comes any more, and
# 15 s that the longest unary call may take.
DRAIN_S = 20
GRACE_S = DRAIN_S + 10
SIZE = workload.Size("500m", "192Mi", "1Gi")  # 10,000 connections at 50 kB, and buffers.


def values(names: list[str]) -> str:
    """As compose.yaml's; what an installation decides stands first, where an overlay replaces it."""
    own = {"issuer": terms.EXAMPLE, "origins": [], "trusted_hops": 0, "development": False}
    common = {key: value for key, value in compose.edge_values(names).items() if key not in own}
    return json.dumps(own | common, indent=2) + "\n"


def manifests() -> list[Manifest]:
    return [
        terms.manifest("v1", "ServiceAccount", EDGE, EDGE, automountServiceAccountToken=False),
        _deployment(),
        _inside(),
        _outside(),
        workload.autoscaler(EDGE, EDGE),
        workload.budget(EDGE, EDGE),
        network.of_edge(),
        workload.monitor(EDGE, EDGE, port="stats"),
    ]


def _deployment() -> Manifest:
    pod = workload.pod(EDGE, [_envoy()], _volumes(), GRACE_S)
    pod["initContainers"] = [_writer()]
    return terms.manifest(
        "apps/v1",
        "Deployment",
        EDGE,
        EDGE,
        spec={
            "revisionHistoryLimit": 5,
            "strategy": workload.ROLLING,
            "selector": {"matchLabels": {"app.kubernetes.io/name": EDGE}},
            "template": {"metadata": {"labels": terms.labels(EDGE, EDGE)}, "spec": pod},
        },
    )


def _writer() -> Manifest:
    return {
        "name": "configuration",
        "image": compose.IMAGE,
        "command": ["python", "-m", "envoy", "--out", "/edge", "--settings", f"/settings/{FILE}"],
        "resources": workload.USUAL.resources(),
        "securityContext": workload.LOCKED,
        "volumeMounts": [
            {"name": "edge", "mountPath": "/edge"},
            {"name": "settings", "mountPath": "/settings", "readOnly": True},
        ],
    }


def _envoy() -> Manifest:
    # Ready is who listens, and Envoy listens when it knows its clusters. Whether services are well is not
    # asked: one that is away must not take the others' door along.
    listens = {"tcpSocket": {"port": "mesh"}, "periodSeconds": 2, "timeoutSeconds": 1}
    return {
        "name": "envoy",
        "image": compose.ENVOY_IMAGE,
        "command": ["envoy", "-c", "/edge/envoy.json", "--concurrency", str(WORKERS)],
        "args": ["--log-level", "warning", "--disable-hot-restart"],
        "ports": [
            {"name": name, "containerPort": getattr(PORTS, field)}
            for name, field in (("https", "edge"), ("mesh", "mesh"), ("stats", "stats"))
        ],
        "startupProbe": {**listens, "failureThreshold": 30},
        "readinessProbe": {**listens, "failureThreshold": 2},
        "livenessProbe": {**listens, "periodSeconds": 10, "failureThreshold": 3},
        "lifecycle": {"preStop": {"exec": {"command": ["bash", "-c", _leaving()]}}},
        "resources": SIZE.resources(),
        "securityContext": {**workload.LOCKED, "runAsUser": ENVOY_UID},
        "volumeMounts": [
            {"name": "edge", "mountPath": "/edge", "readOnly": True},
            {"name": "certificate", "mountPath": "/certificates", "readOnly": True},
        ],
    }


def _leaving() -> str:
    """Envoy ends at once when it is told to end; so it is told to be unwell first."""
    ask = r"POST /healthcheck/fail HTTP/1.1\r\nHost: edge\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    return f"exec 3<>/dev/tcp/127.0.0.1/{PORTS.admin}; printf '{ask}' >&3; timeout 1 cat <&3; sleep {DRAIN_S}"


def _volumes() -> list[Manifest]:
    """The certificate's paths are the edge's own (docs/edge.md); a renewed one is taken up by itself."""
    files = [
        {"key": "tls.crt", "path": "current/edge.crt"},
        {"key": "tls.key", "path": "current/edge.key"},
    ]
    return [
        {"name": "edge", "emptyDir": {"sizeLimit": workload.TMP_MAX}},
        {"name": "settings", "configMap": {"name": EDGE}},
        {"name": "certificate", "secret": {"secretName": CERTIFICATE, "items": files, "defaultMode": 0o440}},
    ]


def _inside() -> Manifest:
    """The name that services call others by."""
    ports = [
        {"name": "https", "port": PORTS.edge, "targetPort": "https"},
        {"name": "mesh", "port": PORTS.mesh, "targetPort": "mesh", "appProtocol": "kubernetes.io/h2c"},
        {"name": "stats", "port": PORTS.stats, "targetPort": "stats"},
    ]
    spec = {"selector": {"app.kubernetes.io/name": EDGE}, "ports": ports}
    return terms.manifest("v1", "Service", EDGE, EDGE, spec=spec)


def _outside() -> Manifest:
    """The world's door. Callers keep their addresses, by which those without a token are limited."""
    found = terms.manifest(
        "v1",
        "Service",
        f"{EDGE}-public",
        EDGE,
        spec={
            "type": "LoadBalancer",
            "externalTrafficPolicy": "Local",
            "selector": {"app.kubernetes.io/name": EDGE},
            "ports": [{"name": "https", "port": 443, "targetPort": "https"}],
        },
    )
    return found
