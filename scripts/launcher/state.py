"""What the supervisor last said of itself and its children, in a file that every command reads.

The supervisor holds a lock for as long as it lives; the file counts only while the lock is held, so a
number in it is never a stranger's pid.
"""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from launcher.paths import Home
from launcher.problem import Problem

STARTING, SERVING, STOPPING, FAILED = "starting", "serving", "stopping", "failed"
WAITING, READY, RESTARTING, CRASHING, STOPPED = "waiting", "ready", "restarting", "crash-looping", "stopped"


@dataclass
class Component:
    """One child as others see it."""

    name: str
    port: int
    services: tuple[str, ...] = ()
    phase: str = WAITING
    note: str = ""
    pid: int | None = None
    restarts: int = 0
    since: float = field(default_factory=time.time)
    role: str = ""  # In a cluster: what it is at the moment.


@dataclass
class State:
    """The whole mesh as others see it."""

    pid: int
    ports: dict[str, int]
    edge: bool
    phase: str = STARTING
    problem: tuple[str, str] | None = None  # What went wrong, and the way out.
    began: float = field(default_factory=time.time)
    components: list[Component] = field(default_factory=list)
    instances: int = 0  # Of each process of services in a cluster; 0: no cluster.
    primary: int = 0  # In a cluster: the port of the PostgreSQL that is written to.

    @property
    def postgres(self) -> int:
        """The port of the PostgreSQL that is written to."""
        return self.primary or self.ports["postgres"]

    def write(self, home: Home) -> None:
        unfinished = home.state.with_suffix(".new")
        unfinished.write_text(json.dumps(asdict(self)))
        unfinished.replace(home.state)

    def find(self, name: str) -> Component:
        """The component of that name, or the one that hosts the service of that name. Raises Problem."""
        for component in self.components:
            if name == component.name or name in component.services:
                return component
        known = sorted({each for one in self.components for each in (one.name, *one.services)})
        raise Problem(f"nothing here is called {name}", f"one of: {', '.join(known)}")

    def every(self, name: str) -> list[Component]:
        """The component of that name, or all that host the service of that name. Raises Problem."""
        first = self.find(name)
        if first.name == name and name not in first.services:
            return [first]
        return [each for each in self.components if name in each.services]


def read(home: Home) -> State | None:
    """The state of the mesh that runs now, None when none runs."""
    if not held(home):
        return None
    return last(home)


def last(home: Home) -> State | None:
    """What was said last, by a supervisor that may be gone."""
    try:
        values: dict[str, Any] = json.loads(home.state.read_text())
    except (OSError, ValueError):
        return None
    components = [
        Component(**{**each, "services": tuple(each["services"])}) for each in values.pop("components")
    ]
    return State(**values, components=components)


def held(home: Home) -> bool:
    """Whether a supervisor lives."""
    try:
        with home.held.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


@contextmanager
def holding(home: Home) -> Iterator[bool]:
    """Holds the supervisor's lock; False when another holds it. A glance of `held` is waited out."""
    with os.fdopen(os.open(home.held, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)) as file:
        for _ in range(50):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.01)
            else:
                yield True
                return
        yield False
