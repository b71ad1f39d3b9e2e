"""Which endpoint gets the next call: pick_first, round_robin, least_request (gRFC A24, A48, A61, A62).

A balancer is told of every endpoint's state, asks endpoints to connect, and answers picks without waiting.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from grpc import ChannelConnectivity as State

from services.chassis.wire.client.method import Waiting
from services.chassis.wire.client.service_config import LEAST_REQUEST, PICK_FIRST, ROUND_ROBIN, Balancing


class Target(Protocol):
    """An endpoint, as balancers see it."""

    @property
    def address(self) -> str: ...
    @property
    def state(self) -> State: ...
    @property
    def load(self) -> int:
        """Calls in flight and waiting."""

    def begin(self, waiting: Waiting) -> None:
        """Has a call begun on it, now or when it has room."""

    def connect(self) -> None:
        """From IDLE; in any other state nothing happens."""

    def disconnect(self) -> None:
        """Back to IDLE; calls in flight are finished."""


class Balancer(Protocol):
    """A policy at work. Targets are the channel's: a balancer neither makes nor closes them."""

    state: State

    def update(self, targets: Sequence[Target]) -> None:
        """There are other endpoints; those that stay are the same objects."""

    def changed(self, target: Target) -> None:
        """The state of `target` is another."""

    def pick(self, avoid: Collection[Target]) -> Target | None:
        """A READY target, if possible none of `avoid`; None when there is none."""

    def wake(self) -> None:
        """Somebody wants to call: leave IDLE."""


class PickFirst:
    """The first endpoint that can be reached gets every call, until its connection breaks."""

    def __init__(self, shuffle: bool = False) -> None:
        self.state = State.IDLE
        self._shuffle = shuffle
        self._targets: list[Target] = []
        self._chosen: Target | None = None
        self._trying: Target | None = None  # All before it have failed in this pass.

    def update(self, targets: Sequence[Target]) -> None:
        self._targets = list(targets)
        if self._shuffle:
            random.shuffle(self._targets)
        if self._chosen in self._targets:
            return
        self._chosen = None
        if not self._targets:
            self._trying, self.state = None, State.TRANSIENT_FAILURE
        elif self.state is not State.IDLE:
            self._try_from_the_start()

    def changed(self, target: Target) -> None:
        if target is self._chosen:
            if target.state is not State.READY:
                self._lost(target)
        elif target.state is State.READY and target in self._targets:
            self._choose(target)
        elif self.state is State.TRANSIENT_FAILURE and target.state is State.IDLE:
            target.connect()  # Its wait is over. The failure lasts until one is READY (A62).
        elif target is self._trying and target.state is not State.CONNECTING:
            self._try_next()

    def pick(self, avoid: Collection[Target]) -> Target | None:
        return self._chosen

    def wake(self) -> None:
        if self.state is State.IDLE and self._targets:
            self._try_from_the_start()

    def _choose(self, target: Target) -> None:
        self._chosen, self._trying, self.state = target, None, State.READY
        for other in self._targets:
            if other is not target:
                other.disconnect()

    def _lost(self, target: Target) -> None:
        """Not connected again before somebody calls, unless the endpoint is at it already (A105)."""
        self._chosen, self.state = None, State.IDLE
        if target.state is not State.IDLE:
            self._try_from_the_start()

    def _try_from_the_start(self) -> None:
        if self.state is not State.TRANSIENT_FAILURE:
            self.state = State.CONNECTING
        self._trying = self._targets[0]
        self._try()

    def _try(self) -> None:
        """Connects `_trying`; what waits after a failure counts as failed."""
        while self._trying is not None:
            target = self._trying
            if target.state is State.READY:
                return self._choose(target)
            target.connect()
            if target.state is State.CONNECTING:
                return None
            self._advance()
        return None

    def _try_next(self) -> None:
        self._advance()
        self._try()

    def _advance(self) -> None:
        at = self._targets.index(self._trying) + 1 if self._trying in self._targets else 0
        self._trying = self._targets[at] if at < len(self._targets) else None
        if self._trying is None:
            self.state = State.TRANSIENT_FAILURE


class _Spread:
    """What policies share that keep all endpoints connected."""

    def __init__(self) -> None:
        self.state = State.IDLE
        self._targets: list[Target] = []
        self._ready: list[Target] = []
        self._failed: set[Target] = set()  # Since then not READY: stay failed while they are tried again.

    def update(self, targets: Sequence[Target]) -> None:
        self._targets = list(targets)
        self._failed &= set(targets)
        if self.state is not State.IDLE:
            self._connect()
        self._settle()

    def changed(self, target: Target) -> None:
        if target not in self._targets:
            return
        if target.state is State.READY:
            self._failed.discard(target)
        elif target.state is State.TRANSIENT_FAILURE:
            self._failed.add(target)
        elif target.state is State.IDLE and self.state is not State.IDLE:
            target.connect()
        self._settle()

    def wake(self) -> None:
        if self.state is State.IDLE:
            self.state = State.CONNECTING
            self._connect()
            self._settle()

    def _connect(self) -> None:
        for target in self._targets:
            target.connect()

    def _settle(self) -> None:
        ready = [target for target in self._targets if target.state is State.READY]
        if ready != self._ready:
            self._ready = ready
            self._changed_ready()
        if ready:
            self.state = State.READY
        elif len(self._failed) == len(self._targets):  # Also when there is none.
            self.state = State.TRANSIENT_FAILURE
        elif self.state is not State.IDLE:
            self.state = State.CONNECTING

    def _changed_ready(self) -> None:
        """Other targets are READY than before."""


class RoundRobin(_Spread):
    """Every endpoint in its turn; the first turn is random, so that clients do not march together."""

    def __init__(self) -> None:
        super().__init__()
        self._turn = 0

    def pick(self, avoid: Collection[Target]) -> Target | None:
        ready = self._ready
        for _ in ready:
            self._turn = turn = (self._turn + 1) % len(ready)
            if not avoid or ready[turn] not in avoid:
                return ready[turn]
        return ready[self._turn] if ready else None

    def _changed_ready(self) -> None:
        self._turn = random.randrange(len(self._ready)) if self._ready else 0


class LeastRequest(_Spread):
    """Of some endpoints taken at random, the one with the fewest calls in flight (A48)."""

    def __init__(self, choices: int = 2) -> None:
        super().__init__()
        self._choices = choices

    def pick(self, avoid: Collection[Target]) -> Target | None:
        ready = self._ready
        if avoid:
            ready = [target for target in ready if target not in avoid] or ready
        if len(ready) < 2:
            return ready[0] if ready else None
        best = ready[int(random.random() * len(ready))]  # With replacement, as A48 has it.
        for _ in range(self._choices - 1):
            other = ready[int(random.random() * len(ready))]
            if other.load < best.load:
                best = other
        return best


def balancer(chosen: Balancing) -> Balancer:
    """The policy that a service config names."""
    make: dict[str, Callable[[], Balancer]] = {
        PICK_FIRST: lambda: PickFirst(chosen.shuffle),
        ROUND_ROBIN: RoundRobin,
        LEAST_REQUEST: lambda: LeastRequest(chosen.choices),
    }
    return make[chosen.policy]()
