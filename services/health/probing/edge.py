"""Envoy: its own statistics, and by them every service as it is seen from its door.

Envoy asks each endpoint by grpc.health.v1 every second and keeps the answer as membership of the service's
cluster; that is what calls meet, so it is what counts here. The same page has the calls and how they ended.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from urllib.parse import quote

from google.rpc import code_pb2

from services.health.domain.component import Verdict
from services.health.domain.impact import Calls
from services.health.looking import Finding
from services.health.probing.http import get

# Names of Envoy's own; its page has those with tags taken out, which LINE reads.
FILTER = r"^cluster\..*\.(membership_(healthy|total)|upstream_rq_(completed|5xx)|grpc\..*\.[0-9]+)$"
LINE = re.compile(
    r"^envoy_cluster_(membership_healthy|membership_total|upstream_rq_completed|upstream_rq_xx|grpc_\d+)"
    r"\{(.*)\} (\d+)$",
    re.MULTILINE,
)
CLUSTER = re.compile(r'envoy_cluster_name="([^"]*)"')
FAULTS = {code_pb2.UNKNOWN, code_pb2.DEADLINE_EXCEEDED, code_pb2.INTERNAL, code_pb2.UNAVAILABLE}
FAULTS |= {code_pb2.DATA_LOSS}


class Edge:
    component = "edge"

    def __init__(self, url: str, services: Collection[str]) -> None:
        self._url = f"{url.rstrip('/')}/metrics?filter={quote(FILTER)}"
        self._services = frozenset(services)
        self.calls: Mapping[str, Calls] = {}

    async def look(self) -> Sequence[Finding]:
        text = (await get(self._url)).decode()
        members, self.calls = read(text, self._services)
        return [Finding(self.component), *(_member(name, *count) for name, count in members.items())]


def read(text: str, services: Collection[str]) -> tuple[dict[str, tuple[int, int]], dict[str, Calls]]:
    """By service: endpoints that are healthy and all of them, if there are any; and its calls.

    Failed are at least as many as Envoy answered in the service's place, and as many gRPC calls as ended in a
    fault. Both have calls in common that cannot be told apart, so the larger counts.
    """
    counts: dict[str, Counter[str]] = {}
    for metric, labels, value in LINE.findall(text):
        cluster = CLUSTER.search(labels)
        if cluster is not None and cluster[1] in services:
            counts.setdefault(cluster[1], Counter())[_kind(metric)] += int(value)
    members = {
        name: (count["membership_healthy"], count["membership_total"])
        for name, count in sorted(counts.items())
        if count["membership_total"]
    }
    calls = {
        name: Calls(
            calls=count["upstream_rq_completed"], failed=max(count["upstream_rq_xx"], count["faults"])
        )
        for name, count in counts.items()
    }
    return members, calls


def _kind(metric: str) -> str:
    """All codes that are a fault are one kind."""
    code = metric.removeprefix("grpc_")
    return "faults" if code.isdigit() and int(code) in FAULTS else metric


def _member(service: str, healthy: int, total: int) -> Finding:
    name = f"service.{service}"
    if not healthy:
        return Finding(name, Verdict.BAD, "no endpoint is healthy")
    if healthy < total:
        return Finding(name, Verdict.SLOW, f"{healthy} of {total} endpoints are healthy")
    return Finding(name)
