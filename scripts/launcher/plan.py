"""What a mesh is to be started with: the answer to all flags and variables, handed to the supervisor."""

import json
from dataclasses import asdict, dataclass

from launcher.ports import Ports


@dataclass(frozen=True)
class Plan:
    """No secret is in it: it is an argument of the supervisor."""

    ports: Ports
    processes: int
    edge: bool  # Without it, PostgreSQL, NATS and the services only.
    instances: int = 0  # Of each process of services in a cluster; 0: no cluster.

    def written(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, text: str) -> "Plan":
        values = json.loads(text)
        return cls(**{**values, "ports": Ports(**values["ports"])})
