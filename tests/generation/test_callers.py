"""Contracts name which services may call what: exactly what these do call, held by reading both."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
METHODS = json.loads((ROOT / "gen/inventory.json").read_text())["methods"]
SERVICES = sorted(path.parent.name for path in ROOT.glob("services/*/app.py"))
IMPORT = re.compile(r"^ *from (weft\.\S+) import (\([^)]*\)|[^#\n]*)", re.M)
NAME = re.compile(r"(\w+)(?: as (\w+))?")
ATTRIBUTE = re.compile(r"(\w+)\.([A-Z]\w*)")
# What contracts open to each service though none calls it in its own code yet.
OFFERED = {
    "weft.identity.v1.PolicyService.CheckAccess",
    "weft.identity.v1.SessionService.CheckSession",
}
OFFERED |= {f"weft.registry.v1.CertificateService.{name}" for name in ("IssueCertificate", "GetTrustBundle")}
OFFERED |= {
    f"weft.registry.v1.RegistryService.{verb}Instance" for verb in ("Register", "Renew", "Deregister")
}


def _texts(folder: Path) -> list[str]:
    return [path.read_text() for path in sorted(folder.rglob("*.py"))]


def _imports(text: str) -> Iterator[tuple[str, str, str]]:
    """Module of the contracts, name, and what it is called here."""
    for module, names in IMPORT.findall(text):
        for name, called in NAME.findall(names):
            yield module, name, called or name


def _stubs(text: str) -> Iterator[str]:
    """Full names of the gRPC services that it has stubs of."""
    for module, name, _ in _imports(text):
        if module.endswith("_pb2_grpc") and name.endswith("Stub"):
            found = name.removesuffix("Stub").removesuffix("Async")
            yield f"{module.rpartition('.')[0]}.{found}"


def _said(text: str) -> Iterator[str]:
    """Names that are looked up on what is no module of the contracts: `self._orders.GetOrder`."""
    contracts = {called for _, _, called in _imports(text)}
    yield from (name for owner, name in ATTRIBUTE.findall(text) if owner not in contracts)


@cache
def calls() -> dict[str, set[str]]:
    """Which services call a method, as its stubs stand in their code."""
    found: dict[str, set[str]] = defaultdict(set)
    for name in [*SERVICES, "chassis"]:
        texts = _texts(ROOT / "services" / name)
        stubs = {stub for text in texts for stub in _stubs(text)}
        said = {attribute for text in texts for attribute in _said(text)}
        for method in METHODS:
            service, _, rpc = method.rpartition(".")
            if service in stubs and rpc in said:
                found[method].add("*" if name == "chassis" else name)
    return found


def declared(method: str) -> set[str]:
    return set(METHODS[method]["access"].get("callers", ()))


def test_what_services_call_is_read() -> None:
    assert calls()["weft.order.v1.OrderService.CreateOrder"] == {"cart"}
    assert "*" in calls()["weft.queue.v1.JobService.EnqueueJob"], "the chassis calls for every service"
    assert len(calls()) > 20


def test_each_service_may_call_what_it_calls() -> None:
    closed = {method: who for method, who in calls().items() if not METHODS[method]["access"].get("public")}
    refused = {
        method: who - declared(method)
        for method, who in closed.items()
        if "*" not in declared(method) and who - declared(method) - {method.split(".")[1]}
    }
    assert refused == {}, "name them: option (weft.options.v1.access).callers"


def test_no_service_may_call_what_it_does_not() -> None:
    idle = {
        method: declared(method) - calls().get(method, set())
        for method in METHODS
        if method not in OFFERED and declared(method) - calls().get(method, set())
    }
    assert idle == {}
