"""The mesh that faults are done to: the one of the data folder, on this machine, and no other.

No address is ever taken. The supervisor's lock says that it runs, and only its own children are touched.
"""

from __future__ import annotations

from dataclasses import dataclass

from launcher import edge, links, state, undoing
from launcher.paths import Home
from launcher.undoing import Process
from scripts.chaos.scenario import Scenario, Step

SERVERS = ("postgres", "nats", "mesh", "edge")  # The other ends of links.
NEEDED = "identity"  # The users' calls are to it.


class Refused(Exception):
    """This scenario is not played on this mesh; says why, and the way out."""


@dataclass(frozen=True)
class Mesh:
    """The parts of the mesh that runs, asked for anew each time: a pid is another's after a death."""

    home: Home

    def seen(self) -> state.State:
        if not (seen := state.read(self.home)):
            raise Refused(f"no mesh runs in {self.home.path}: `scripts/weft up` starts one")
        return seen

    def check(self, scenario: Scenario) -> None:
        """Raises Refused before anything is done."""
        seen = self.seen()
        names = [name for each in seen.components for name in (each.name, *each.services)]
        if not seen.edge or NEEDED not in names:
            raise Refused(f"the load goes through the edge to {NEEDED}: both must be in the mesh")
        if ill := self.ill():
            raise Refused(f"the mesh is not well before anything was done: {ill}")
        if scenario.needs_links and links.COMPONENT not in names:
            raise Refused(
                "links and clocks are not to be had here: start the mesh anew with WEFT_CHAOS=1"
                " (`scripts/weft down && WEFT_CHAOS=1 scripts/weft up`)"
            )
        for step in scenario.steps:
            self._check(step)

    def _check(self, step: Step) -> None:
        if step.fault in {"partition", "delay", "loss"}:
            if not self.links(step):
                raise Refused(f"there is no link {step.target}-{step.peer or 'anything'}")
        elif step.fault == "skew" and self.process(step.target) is None:
            raise Refused(f"{step.target} is no process of services: only these have a clock that moves")
        elif step.target:
            self.part(step.target)

    def part(self, name: str) -> Process | None:
        """The process of a part, None while it is dead. Raises Refused."""
        seen = self.seen()
        found = [each for each in seen.components if name in (each.name, *each.services)]
        if not found:
            known = sorted({each.name for each in seen.components})
            raise Refused(f"nothing in this mesh is called {name}; there are {', '.join(known)}")
        pid = found[0].pid
        began = undoing.began_at(pid) if pid else None
        if pid is None or began is None:
            return None
        if undoing.parent_of(pid) != seen.pid:
            raise Refused(f"{name} (pid {pid}) is no child of this mesh's supervisor")
        return pid, began

    def process(self, name: str) -> str | None:
        """Which process of services a name stands for."""
        for each in self.seen().components:
            if each.services and name in (each.name, *each.services):
                return each.name
        return None

    def links(self, step: Step) -> list[str]:
        """Names of the links between a step's ends."""
        ends = {self.process(end) or end for end in (step.target, step.peer) if end}
        processes = [each.name for each in self.seen().components if each.services]
        return [f"{one}-{server}" for one in processes for server in SERVERS if ends <= {one, server}]

    def ill(self) -> str:
        """What is not well, empty when all is."""
        seen = self.seen()
        away = [each.name for each in seen.components if each.phase != state.READY]
        if seen.phase != state.SERVING or away:
            return ", ".join(away) or seen.phase
        served = [name for each in seen.components for name in each.services]
        return edge.unhealthy(seen.ports["stats"], served)
