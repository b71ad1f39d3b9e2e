"""Network policies let through what the mesh needs, and nothing else."""

import json
import re
from typing import Any

import pytest

from launcher import compose
from launcher.kubernetes import network
from tests.launcher.conftest import ROOT
from tests.launcher.manifests import DEPLOY, NAMES, all_of, pod_labels, selects

PORTS = compose.PORTS
NATS = {"app.kubernetes.io/name": "nats"}
POSTGRES = {"cnpg.io/cluster": "postgres"}
CLIENTS = re.compile(r"^ *(?:import|from) (?:httpx|aiosmtplib|stripe)\b", re.M)


def labels(name: str) -> dict[str, str]:
    """Of the pods of a Deployment, or of a store."""
    stores = {"nats": NATS, "postgres": POSTGRES}
    return stores.get(name) or pod_labels(all_of("Deployment")[name])


def reaches(caller: str, callee: str, port: int) -> bool:
    """As Kubernetes has it: both sides' policies must allow it; who has none may do all."""
    out = allowed(labels(caller), "egress", "to", labels(callee), port)
    return out and allowed(labels(callee), "ingress", "from", labels(caller), port)


def allowed(pod: dict[str, str], way: str, side: str, other: dict[str, str], port: int) -> bool:
    specs = [each["spec"] for each in all_of("NetworkPolicy").values()]
    bound = [
        spec for spec in specs if way.title() in spec["policyTypes"] and selects(spec["podSelector"], pod)
    ]
    return not bound or any(lets(rule, side, other, port) for spec in bound for rule in spec[way])


def lets(rule: dict[str, Any], side: str, other: dict[str, str], port: int) -> bool:
    """Pods of this namespace only: peers elsewhere and addresses are looked at by tests of their own."""
    here = [peer["podSelector"] for peer in rule.get(side, []) if peer.keys() == {"podSelector"}]
    ports = {each["port"] for each in rule["ports"] if each["protocol"] == "TCP"}
    return port in ports and (side not in rule or any(selects(chosen, other) for chosen in here))


def test_all_pods_of_ours_are_denied_what_is_not_allowed() -> None:
    denial = all_of("NetworkPolicy")["nothing"]["spec"]
    assert denial["policyTypes"] == ["Ingress", "Egress"]
    assert denial["ingress"] == denial["egress"] == []
    open_ = [
        name
        for name, each in all_of("Deployment").items()
        if not selects(denial["podSelector"], pod_labels(each))
    ]
    assert open_ == []


@pytest.mark.parametrize("name", NAMES)
def test_a_service_is_called_by_the_edge_and_by_nobody_else(name: str) -> None:
    assert reaches("edge", name, PORTS.services)
    others = {*all_of("Deployment"), "nats", "postgres"} - {"edge"}
    assert [other for other in sorted(others) if reaches(other, name, PORTS.services)] == []
    assert not reaches("edge", name, PORTS.metrics)


@pytest.mark.parametrize("name", [*NAMES, "weft-worker-default"])
def test_a_service_reaches_the_edge_and_its_stores(name: str) -> None:
    assert reaches(name, "edge", PORTS.mesh)
    assert reaches(name, "nats", PORTS.nats)
    assert reaches(name, "postgres", PORTS.postgres) is (name in NAMES)  # Workers have no database.
    assert reaches(name, "edge", PORTS.stats) is (name in {"health", "registry"})  # They read figures.
    assert not reaches(name, "nats", PORTS.monitor)


def test_the_registry_alone_reads_what_services_count() -> None:
    others = {*all_of("Deployment")} - {"registry"}
    assert all(reaches("registry", name, PORTS.metrics) for name in NAMES)
    assert [other for other in sorted(others) if reaches(other, "audit", PORTS.metrics)] == []


def test_stores_are_closed_to_the_edge_and_open_among_themselves() -> None:
    assert not reaches("edge", "postgres", PORTS.postgres)
    assert not reaches("edge", "nats", PORTS.nats)
    assert reaches("nats", "nats", 6222)
    assert reaches("postgres", "postgres", PORTS.postgres)


def test_the_world_comes_in_by_tls_only() -> None:
    rules = all_of("NetworkPolicy")["edge"]["spec"]["ingress"]
    assert [rule["ports"] for rule in rules if "from" not in rule] == [
        [{"protocol": "TCP", "port": PORTS.edge}]
    ]
    [public] = all_of("Service")["edge-public"]["spec"]["ports"]
    assert (public["port"], public["targetPort"]) == (443, "https")
    assert json.loads((DEPLOY / "base" / "edge.json").read_text())["development"] is False


def test_only_services_that_have_a_client_of_the_world_reach_it() -> None:
    found = {
        path.relative_to(ROOT / "services").parts[0]
        for path in (ROOT / "services").rglob("*.py")
        if CLIENTS.search(path.read_text())
    }
    assert found - {"chassis", "registry"} == set(network.OUTSIDE)  # The registry reads inside of the mesh.
    out = {
        name: [
            peer["ipBlock"]
            for rule in each["spec"].get("egress", [])
            for peer in rule["to"]
            if "ipBlock" in peer
        ]
        for name, each in all_of("NetworkPolicy").items()
    }
    assert {name for name, blocks in out.items() if blocks} == set(network.OUTSIDE)
    assert all("169.254.0.0/16" in block["except"] for blocks in out.values() for block in blocks)


@pytest.mark.parametrize("name", [*NAMES, "edge", "weft-worker-default"])
def test_names_can_be_looked_up_and_metrics_scraped(name: str) -> None:
    specs = [each["spec"] for each in all_of("NetworkPolicy").values()]
    mine = [spec for spec in specs if selects(spec["podSelector"], labels(name))]
    lookups = [rule["ports"] for spec in mine for rule in spec["egress"] if rule == network.names()]
    assert lookups == [[{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]]
    port = PORTS.stats if name == "edge" else PORTS.metrics
    readers = network.OF_EDGE if name == "edge" else network.OF_SERVICES if name in NAMES else ()
    assert network._scraped(port, *readers) in [rule for spec in mine for rule in spec["ingress"]]
