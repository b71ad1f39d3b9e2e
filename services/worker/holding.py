"""Messages that this worker holds, and by whom it was given each.

What feeds the runner (queues by priority, lanes of keyed queues) is a Giver. It hears of each delivery when
that was reported and acknowledged; a keyed queue's retry goes back to its lane, unacknowledged.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.chassis.jetstream.pulling import Delivery as Message
from services.worker.delivery import Delivery


class Giver(Protocol):
    """Who gave a delivery to the runner."""

    def ran(self, delivery: Delivery) -> None:
        """Its attempt has ended, or did not begin: there is room for another."""

    def done(self, deliveries: Sequence[Delivery]) -> None:
        """They are out of hand: acknowledged, given back, or found to be no longer this worker's."""

    def lost(self, delivery: Delivery) -> None:
        """Another worker has its lane, and nothing was written down of it. `done` follows."""

    def again(self, delivery: Delivery, delay_s: float) -> None:
        """Its attempt is reported as RETRYING; a keyed queue's next one is the giver's to begin."""


def release(deliveries: Iterable[Delivery]) -> None:
    """Tells those who gave them that they are out of hand."""
    given: dict[Giver, list[Delivery]] = {}
    for delivery in deliveries:
        given.setdefault(delivery.handle.giver, []).append(delivery)
    for giver, some in given.items():
        giver.done(some)


class Claims(Protocol):
    """Who tells others which messages this worker holds, so that they can be freed when it dies."""

    def took(self, messages: Sequence[Message]) -> None: ...
    def gave(self, messages: Iterable[Message]) -> None: ...


@dataclass(slots=True, eq=False)
class Handle:
    """What the source knows of a delivery."""

    giver: Giver
    message: Message
    lane: int | None = None  # Of a keyed queue; None: the queue is not keyed.
    epoch: int = 0  # Of the lane's lease.
