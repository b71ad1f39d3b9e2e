"""Who may reach whom. Nothing is allowed that is not said here."""

from launcher.kubernetes import terms
from launcher.kubernetes.terms import PORTS, Manifest

DNS = 53
COLLECTOR = 4317  # OTLP over gRPC.
OPERATORS = {"cnpg": "cnpg-system", "keda": "keda"}  # The namespaces that their makers install them in.
# What no call to the outside may reach: private, shared and link-local addresses, also a cloud's metadata.
INSIDE = ["10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"]
# Who calls the world, and by which ports.
OUTSIDE: dict[str, tuple[int, ...]] = {
    "billing": (443,),  # VIES.
    "health": (25, 80, 443, 465, 587),  # Probes of relays and gateways.
    "identity": (443,),  # Other issuers' sign-in.
    "notification": (25, 465, 587),  # The mail relay.
    "payment": (443,),  # Gateways.
    "scheduler": (80, 443),  # Webhooks.
}
# Services that read what others have counted, inside of the mesh, and at which ports.
OF_EDGE = ("health", "registry")
OF_SERVICES = ("registry",)


def denial() -> Manifest:
    """For all pods of ours: what other policies do not allow is refused, in and out."""
    return _policy("nothing", {"app.kubernetes.io/part-of": "weft"}, [], [])


def of_service(name: str) -> Manifest:
    """Calls come by the edge only, which checks who calls; a service calls others by the edge as well."""
    outside = [world(*OUTSIDE[name])] if name in OUTSIDE else []
    found = _policy(
        name,
        {"app.kubernetes.io/name": name},
        [_from([_pods(terms.EDGE)], PORTS.services), _scraped(PORTS.metrics, *OF_SERVICES)],
        [*reached(), *_read(name), *outside],
    )
    found["metadata"]["labels"] = terms.labels(name)
    return found


def _read(name: str) -> list[Manifest]:
    """What this service reads of others' figures."""
    every = {"podSelector": {"matchLabels": {terms.COMPONENT: terms.SERVICE}}}
    edge = [_to([_pods(terms.EDGE)], PORTS.stats)] if name in OF_EDGE else []
    return [*edge, *([_to([every], PORTS.metrics)] if name in OF_SERVICES else [])]


def reached() -> list[Manifest]:
    """Names, the edge, the database, NATS, and the collector of traces."""
    postgres = {"podSelector": {"matchLabels": {"cnpg.io/cluster": terms.POSTGRES}}}
    return [
        names(),
        _to([_pods(terms.EDGE)], PORTS.mesh),
        _to([postgres], PORTS.postgres),
        _to([_pods(terms.NATS)], PORTS.nats),
        _to([_namespace(terms.MONITORING)], COLLECTOR),
    ]


def of_edge() -> Manifest:
    """The one door: open to all by TLS, to services by the mesh's port."""
    services = {"podSelector": {"matchExpressions": [_any_of(terms.SERVICE, terms.WORKER)]}}
    every = {"podSelector": {"matchLabels": {terms.COMPONENT: terms.SERVICE}}}
    found = _policy(
        terms.EDGE,
        {"app.kubernetes.io/name": terms.EDGE},
        [
            {"ports": [{"protocol": "TCP", "port": PORTS.edge}]},
            _from([services], PORTS.mesh),
            _scraped(PORTS.stats, *OF_EDGE),
        ],
        [names(), _to([every], PORTS.services), _to([_namespace(terms.MONITORING)], COLLECTOR)],
    )
    found["metadata"]["labels"] = terms.labels(terms.EDGE, terms.EDGE)
    return found


def of_postgres() -> Manifest:
    """For CloudNativePG's pods: services, one another, and the operator."""
    itself = {"cnpg.io/cluster": terms.POSTGRES}
    services = {"podSelector": {"matchLabels": {terms.COMPONENT: terms.SERVICE}}}
    peers = {"podSelector": {"matchLabels": itself}}
    return _policy(
        terms.POSTGRES,
        itself,
        [
            _from([services], PORTS.postgres),
            _from([peers, _namespace(OPERATORS["cnpg"])], PORTS.postgres, terms.PEERS["pg_status"]),
            _scraped(terms.PEERS["pg_metrics"]),
        ],
    )


def of_nats() -> Manifest:
    """For the chart's pods: services and workers, one another, and KEDA, which asks what waits."""
    mesh = {"podSelector": {"matchExpressions": [_any_of(terms.SERVICE, terms.WORKER)]}}
    return _policy(
        terms.NATS,
        {"app.kubernetes.io/name": terms.NATS},
        [
            _from([mesh], PORTS.nats),
            _from([_pods(terms.NATS)], terms.PEERS["nats"]),
            _from([_namespace(OPERATORS["keda"])], PORTS.monitor),
            _scraped(terms.PEERS["nats_metrics"]),
        ],
    )


def names() -> Manifest:
    """The cluster's DNS, by either protocol."""
    server = {**_namespace("kube-system"), "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}
    return {"to": [server], "ports": [{"protocol": each, "port": DNS} for each in ("UDP", "TCP")]}


def world(*ports: int) -> Manifest:
    return _to([{"ipBlock": {"cidr": "0.0.0.0/0", "except": INSIDE}}], *ports)


def _policy(
    name: str, pods: dict[str, str], ingress: list[Manifest], egress: list[Manifest] | None = None
) -> Manifest:
    """Without `egress`, what the pods reach is not bounded."""
    spec: Manifest = {"podSelector": {"matchLabels": pods}, "policyTypes": ["Ingress"], "ingress": ingress}
    if egress is not None:
        spec |= {"policyTypes": ["Ingress", "Egress"], "egress": egress}
    metadata = {"name": name, "labels": {"app.kubernetes.io/part-of": "weft"}}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}


def _from(who: list[Manifest], *ports: int) -> Manifest:
    return {"from": who, "ports": [{"protocol": "TCP", "port": port} for port in ports]}


def _to(whom: list[Manifest], *ports: int) -> Manifest:
    return {"to": whom, "ports": [{"protocol": "TCP", "port": port} for port in ports]}


def _scraped(port: int, *services: str) -> Manifest:
    """By the monitoring, and by these services."""
    return _from([_namespace(terms.MONITORING), *map(_pods, services)], port)


def _pods(name: str) -> Manifest:
    return {"podSelector": {"matchLabels": {"app.kubernetes.io/name": name}}}


def _namespace(name: str) -> Manifest:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}


def _any_of(*components: str) -> Manifest:
    return {"key": terms.COMPONENT, "operator": "In", "values": list(components)}
