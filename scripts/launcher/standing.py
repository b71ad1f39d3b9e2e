"""Who leads in a cluster, and how far the others are: asked of PostgreSQL and NATS now."""

import http.client
import json
from typing import Any

from launcher import layout, pair, state
from launcher.credentials import Credentials
from launcher.edge import ASK_S_MAX
from launcher.paths import Home
from launcher.ports import HOST, Ports
from launcher.postgres import Cluster


def standing(home: Home, seen: state.State) -> dict[str, str]:
    """By component: what it is at the moment, for people. Empty without a cluster."""
    if not seen.instances:
        return {}
    found = {each.name: _followed(home, seen, each) for each in seen.components if each.role}
    leader = _leader(seen)
    for member in layout.members(Ports(**seen.ports)):
        if leader:
            found[member.name] = "leads" if member.name == leader else "follows"
    return found


def illness(seen: state.State, part: state.Component) -> str:
    """What is wrong with the redundancy, though the part runs."""
    return "is not in step: it could not take over" if seen.instances and part.role == pair.BEHIND else ""


def monitor(seen: state.State, name: str) -> int:
    """Where a NATS server tells of itself; 0 when it is none."""
    if not seen.instances:
        return seen.ports["monitor"] if name == "nats" else 0
    return next((each.monitor for each in layout.members(Ports(**seen.ports)) if each.name == name), 0)


def _followed(home: Home, seen: state.State, part: state.Component) -> str:
    """A PostgreSQL's role, and a replica's distance."""
    if part.role == pair.PRIMARY:
        return part.role
    primary = Cluster.of(home, seen.postgres)
    called = f"weft_{pair.SERVERS.index(part.name) + 1}"
    behind = primary.query(pair.lag(called), Credentials.of(home.secrets, []), timeout_s=ASK_S_MAX)
    return f"{part.role}, {int(behind):,} bytes behind" if behind else f"{part.role}, does not follow"


def _leader(seen: state.State) -> str:
    """The member that all others agree leads; empty while there is none."""
    for member in layout.members(Ports(**seen.ports)):
        told = _json(member.monitor, "/jsz").get("meta_cluster", {})
        if leader := str(told.get("leader", "")):
            return leader
    return ""


def _json(port: int, path: str) -> dict[str, Any]:
    link = http.client.HTTPConnection(HOST, port, timeout=ASK_S_MAX)
    try:
        link.request("GET", path)
        answer: dict[str, Any] = json.loads(link.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError):
        return {}
    finally:
        link.close()
    return answer
