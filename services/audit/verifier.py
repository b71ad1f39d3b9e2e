"""The chain, computed anew from the database and compared with every anchor that can be read."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.audit import store
from services.audit.anchoring import Anchoring
from services.audit.domain import FIRST_PREVIOUS, Anchor, Entry
from services.audit.signing import Signing
from services.audit.verifying import Break, Kind, Walk, by_sequence
from services.chassis.db import Database, Tx

FORGED = b""  # Stands for the hash of an anchor whose signature is not ours: no entry has it.


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What was found."""

    first_break: Break | None
    entries: int
    anchors: int
    outside_read: bool
    intact_until: int


class Verifier:
    """Verifies the trail, or a range of it."""

    def __init__(self, db: Database, anchoring: Anchoring, signing: Signing) -> None:
        self._db, self._anchoring, self._signing = db, anchoring, signing

    async def verify(self, first: int, last: int | None) -> Verdict:
        """All in one snapshot. The anchors outside are read before it, so they cannot be ahead of it."""
        outside = await self._anchoring.outside()
        async with self._db.transaction("REPEATABLE READ") as tx:
            known = [*(outside or ()), *await store.anchors(tx, first)]
            within = [anchor for anchor in known if first <= anchor.sequence <= (last or anchor.sequence)]
            walk = Walk(first=first, previous_hash=await _before(tx, first), anchors=self._hashes(within))
            await _walk(tx, walk, last)
        return Verdict(
            first_break=walk.broken,
            entries=walk.entries,
            anchors=len(within),
            outside_read=outside is not None,
            intact_until=walk.intact_until,
        )

    def _hashes(self, anchors: Sequence[Anchor]) -> dict[int, list[bytes]]:
        """Signed hashes by sequence; a forged anchor agrees with nothing."""
        found = by_sequence(anchors)
        for anchor in anchors:
            if not self._signing.signed(anchor):
                found[anchor.sequence].append(FORGED)
        return found


async def _before(tx: Tx, first: int) -> bytes | None:
    """The hash that the first entry has to follow; None when the one before it is gone."""
    if first == 1:
        return FIRST_PREVIOUS
    entry = await tx.get(Entry, first - 1)
    return entry.hash if entry else None


async def _walk(tx: Tx, walk: Walk, last: int | None) -> None:
    head = await store.head(tx)
    at = walk.first - 1
    while batch := await store.after(tx, at, last=last):
        at = batch[-1].sequence
        if not walk.take(batch):
            return
        tx.expunge_all()
    if last is None or last >= head.sequence:
        walk.finish(head.sequence, head.hash)
    elif walk.intact_until < last:
        walk.broken = Break(Kind.DELETED, walk.intact_until + 1, last)
