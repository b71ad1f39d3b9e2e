"""What the servicers work with."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from services.chassis.clock import Clock
from services.chassis.db import Database
from services.registry.domain.instance import TooManyStreams
from services.registry.feed import Feed

STREAMS_MAX = 1_000  # Half of the calls that a process answers at once; the other half stays for calls.


@dataclass
class Room:
    """Streams of one process."""

    taken: int = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """Raises TooManyStreams."""
        if self.taken >= STREAMS_MAX:
            raise TooManyStreams(max=STREAMS_MAX)
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1


@dataclass(frozen=True, kw_only=True)
class Shared:
    """Lent to each servicer."""

    db: Database
    clock: Clock
    feed: Feed
    page_key: str  # Seals page tokens.
    room: Room = field(default_factory=Room)
