"""Anchors: the head of the trail, signed now and then, and a copy of each outside the database.

Outside is the stream `audit_anchors`, which takes them over from our own stream and lets nobody delete,
and the log. Who cuts the trail short in the database does not reach those.
"""

import asyncio
import logging
from collections.abc import Sequence
from datetime import UTC

import nats.errors
from nats.js import api
from nats.js.errors import NotFoundError

from services.audit import store
from services.audit.domain import CHAIN, Anchor
from services.audit.signing import Signing
from services.chassis.bus import Bus
from services.chassis.clock import Clock
from services.chassis.db import Database
from services.chassis.events import emit
from weft.audit.v1.events_pb2 import ChainAnchored

STREAM = "audit_anchors"
SUBJECTS = f"{ChainAnchored.DESCRIPTOR.full_name}.>"
LOOK_EVERY_S = 0.5
READ_MAX = 10_000  # The latest anchors outside that are compared: with one in 10 s, more than a day's.
FETCH_MAX = 500
FETCH_S_MAX = 2.0

log = logging.getLogger("weft.audit")


class Anchoring:
    """Signs anchors, and reads those outside."""

    def __init__(
        self, db: Database, bus: Bus, clock: Clock, signing: Signing, *, entries: int, seconds: float
    ) -> None:
        self._db, self._bus, self._clock, self._signing = db, bus, clock, signing
        self._entries, self._seconds = entries, seconds

    async def run(self) -> None:
        """Signs the head for ever: after so many new entries, and after so many seconds if there is one."""
        await self._bus.ensure_stream("audit")
        await self._bus.ensure(
            api.StreamConfig(
                name=STREAM,
                sources=[api.StreamSource(name="audit", filter_subject=SUBJECTS)],
                deny_delete=True,
                deny_purge=True,
                allow_direct=True,
            )
        )
        waited_since: float | None = None
        while True:
            new = await self._unanchored()
            now = self._clock.monotonic()
            waited_since = None if not new else now if waited_since is None else waited_since
            late = waited_since is not None and now - waited_since >= self._seconds
            if new >= self._entries or late:
                await self.anchor()
                waited_since = None
            await asyncio.sleep(LOOK_EVERY_S)

    async def _unanchored(self) -> int:
        async with self._db.transaction() as tx:
            return (await store.head(tx)).sequence - await store.last_anchored(tx)

    async def anchor(self) -> Anchor | None:
        """Signs the head now. None when there is nothing new to sign."""
        async with self._db.transaction() as tx:
            head = await store.head(tx)
            anchor = Anchor(sequence=head.sequence, hash=head.hash, sign_time=self._clock.now())
            self._signing.sign(anchor)
            if not head.sequence or not await store.keep(tx, anchor):
                return None
            event = ChainAnchored(
                chain=CHAIN,
                sequence=anchor.sequence,
                hash=anchor.hash,
                key_id=anchor.key_id,
                signature=anchor.signature,
            )
            event.sign_time.FromDatetime(anchor.sign_time)
            await emit(tx, event)
        facts = {"sequence": anchor.sequence, "hash": anchor.hash.hex(), "signature": anchor.signature.hex()}
        log.info("the trail is anchored", extra={"facts": {**facts, "key_id": anchor.key_id}})
        return anchor

    async def outside(self) -> Sequence[Anchor] | None:
        """The anchors outside, oldest first; None when they cannot be read."""
        try:
            async with asyncio.timeout(10 * FETCH_S_MAX):
                return await self._read()
        except (nats.errors.Error, TimeoutError, OSError) as error:
            log.warning("the anchors outside cannot be read: %s", type(error).__name__)
            return None

    async def _read(self) -> Sequence[Anchor]:
        try:
            state = (await self._bus.js.stream_info(STREAM)).state
        except NotFoundError:
            return []
        first, anchors = max(state.first_seq, state.last_seq - READ_MAX + 1, 1), list[Anchor]()
        if not state.messages:
            return anchors
        config = api.ConsumerConfig(
            deliver_policy=api.DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=first,
            ack_policy=api.AckPolicy.NONE,
            mem_storage=True,
            inactive_threshold=30.0,
        )
        pull = await self._bus.js.pull_subscribe("", stream=STREAM, config=config)
        try:
            while len(anchors) < state.last_seq - first + 1:
                messages = await pull.fetch(FETCH_MAX, timeout=FETCH_S_MAX)
                anchors += [_anchor(ChainAnchored.FromString(message.data)) for message in messages]
                if messages[-1].metadata.sequence.stream >= state.last_seq:
                    break
        finally:
            await pull.unsubscribe()
        return anchors


def _anchor(event: ChainAnchored) -> Anchor:
    return Anchor(
        sequence=event.sequence,
        hash=event.hash,
        sign_time=event.sign_time.ToDatetime(UTC),
        key_id=event.key_id,
        signature=event.signature,
    )
