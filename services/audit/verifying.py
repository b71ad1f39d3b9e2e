"""Where a chain is broken first, and how: a pure walk over entries, in batches, and over anchors.

Two passes meet. The walk computes each entry anew and looks for gaps and for links that do not hold.
What it cannot see is a chain that closes although it is another one: that is what anchors are for.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from services.audit.domain import FIRST_PREVIOUS, Anchor, Entry


class Kind(StrEnum):
    """What was done to the chain."""

    EDITED = "EDITED"
    DELETED = "DELETED"
    MOVED = "MOVED"
    TRUNCATED = "TRUNCATED"
    REWRITTEN = "REWRITTEN"


@dataclass(frozen=True)
class Break:
    """The first place where the chain is not as it was."""

    kind: Kind
    sequence: int
    last_sequence: int  # How far it may reach; equal to `sequence` when the entry is known.


@dataclass
class Walk:
    """The state of a walk. `first` is the first sequence; the hash before it is taken as given."""

    first: int = 1
    previous_hash: bytes | None = FIRST_PREVIOUS  # None: the entry before `first` was not looked at.
    anchors: dict[int, list[bytes]] = field(default_factory=dict)  # Signed hashes by sequence.
    entries: int = 0
    good_anchor: int = 0  # Sequence of the last anchor that agreed.
    broken: Break | None = None

    def __post_init__(self) -> None:
        self._expected = self.first
        self._last: Entry | None = None

    def take(self, batch: Sequence[Entry]) -> bool:
        """The next entries in order of sequence. False once a break is found."""
        for entry in batch:
            self.broken = self._broken(entry)
            if self.broken:
                return False
            self.entries += 1
            self._expected, self.previous_hash, self._last = entry.sequence + 1, entry.hash, entry
            if entry.sequence in self.anchors:
                self.good_anchor = entry.sequence
        return True

    def _broken(self, entry: Entry) -> Break | None:
        here = self._expected
        if entry.sequence != here:
            return Break(Kind.DELETED, here, entry.sequence - 1)
        if not entry.unedited:
            kind = Kind.MOVED if entry.hash != entry.sealed() and self._moved(entry) else Kind.EDITED
            return Break(kind, here, here)
        if self.previous_hash is not None and entry.previous_hash != self.previous_hash:
            return self._unlinked(entry)
        if any(signed != entry.hash for signed in self.anchors.get(here, [])):
            return Break(Kind.REWRITTEN, self.good_anchor + 1, here)
        return None

    def _moved(self, entry: Entry) -> bool:
        """Sealed as it is, but at another position: the one behind the entry that it names."""
        near = range(max(1, entry.sequence - MOVE_SEARCH_MAX), entry.sequence + MOVE_SEARCH_MAX)
        return any(entry.hash == entry.sealed(position) for position in near)

    def _unlinked(self, entry: Entry) -> Break:
        """A sound entry that follows another one than the one before it: that one was sealed anew."""
        before = entry.sequence - 1
        return Break(Kind.EDITED, max(before, self.first), max(before, self.first))

    def finish(self, head_sequence: int, head_hash: bytes) -> None:
        """The end of the trail is reached; is it where it was?"""
        if self.broken:
            return
        last = self._expected - 1
        reach = max([head_sequence, *self.anchors], default=0)
        if reach > last:
            self.broken = Break(Kind.TRUNCATED, last + 1, reach)
        elif head_sequence != last or (self._last is not None and head_hash != self._last.hash):
            self.broken = Break(Kind.REWRITTEN, self.good_anchor + 1, last)

    @property
    def intact_until(self) -> int:
        """The last entry before the break, or the last one walked."""
        return self.broken.sequence - 1 if self.broken else self._expected - 1


MOVE_SEARCH_MAX = 10_000  # Positions in which a misplaced entry is looked for; each costs one hash.


def by_sequence(anchors: Sequence[Anchor]) -> dict[int, list[bytes]]:
    """Signed hashes; two anchors of one sequence may disagree, and then one of them is caught."""
    found: dict[int, list[bytes]] = {}
    for anchor in anchors:
        found.setdefault(anchor.sequence, []).append(anchor.hash)
    return found
