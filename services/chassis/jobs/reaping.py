"""Gives a dead worker's messages to the others: at once, instead of when the wait for their acks is over.

Every worker does so for all others, and the queue, which is there when the last of them dies. An end that
NATS announces they see within a millisecond; now and then they look besides whether whoever claims something
still answers. Who takes a dead worker's claims out of the stream gives its messages back: that one request
succeeds once.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from services.chassis.errors import CallFailed, Refusal
from services.chassis.jetstream import acks
from services.chassis.jetstream.connection import Connection
from services.chassis.jetstream.errors import JetStreamError
from services.chassis.jetstream.stream import Stream
from services.chassis.jobs.claims import claimants, claimed
from services.chassis.jobs.presence import alive, on_end
from services.chassis.jobs.subjects import CLAIMS
from services.chassis.jobs.sweeping import sweep

ASK_S, ASK_S_MAX = 0.003, 0.2  # Both connections of a dead worker end, but one is seen to end first.
ASKS_MAX = 8  # Then it is frozen, or the network is: the wait for its acks decides.
LOOK_EVERY_S = 2.0  # For what was announced to nobody; spread, so that not all look at once.
LOOK_S_MAX = 1.0  # What a worker has to answer a look.
GONE_S = 3.5  # Missed that long without an announcement: whoever lost its server looks for one every 2 s.

log = logging.getLogger("weft.jobs")


class Reaper:
    """One in each worker, by its id, and in each process of the queue, whose `me` is empty."""

    def __init__(self, connection: Connection, me: str, freed: Callable[[str], Awaitable[object]]) -> None:
        """`freed` is told of each dead worker whose messages were given back here: the queue is to know."""
        self._connection, self._me, self._freed = connection, me, freed
        self._claims = Stream(connection, CLAIMS)
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._missed: dict[str, float] = {}  # Since when, on the event loop's clock.

    async def run(self) -> None:
        """For ever."""
        deaf = on_end(self._connection, self._suspect)
        off = self._connection.on_connect(self._forgive)
        try:
            while True:
                await asyncio.sleep(LOOK_EVERY_S * random.uniform(0.5, 1.5))
                try:
                    await self._look()
                except (JetStreamError, TimeoutError) as error:
                    log.info("nobody could be looked after: %s", type(error).__name__)
        finally:
            deaf()
            off()
            for task in list(self._busy.values()):
                task.cancel()

    async def _look(self) -> None:
        """At all who claim something: who is missed for long is gone."""
        others = sorted(await claimants(self._connection) - {self._me})
        answers = await asyncio.gather(*(alive(self._connection, each, LOOK_S_MAX) for each in others))
        now = asyncio.get_running_loop().time()
        missed = [worker for worker, lives in zip(others, answers, strict=True) if lives is False]
        self._missed = {worker: self._missed.get(worker, now) for worker in missed}
        for worker, since in self._missed.items():
            if now - since >= GONE_S:
                self._suspect(worker)

    def _forgive(self) -> None:
        """We were away ourselves, and so may they have been."""
        self._missed = {}

    def _suspect(self, worker: str) -> None:
        if worker != self._me and worker not in self._busy:
            task = self._busy[worker] = asyncio.create_task(self._examine(worker), name="reaping")
            task.add_done_callback(lambda _: self._busy.pop(worker, None))

    async def _examine(self, worker: str) -> None:
        """Asks until it answers or is known to be gone."""
        patience_s = ASK_S
        try:
            for _ in range(ASKS_MAX):
                lives = await alive(self._connection, worker, patience_s)
                if lives is None:
                    patience_s = min(patience_s * 2, ASK_S_MAX)
                    continue
                if not lives:
                    await self._reap(worker)
                return
        except (JetStreamError, TimeoutError) as error:
            log.info("a worker could not be looked after: %s", type(error).__name__)

    async def _reap(self, worker: str) -> None:
        """Gives back what it held, unless somebody else does."""
        replies = await self._inherit(worker)
        if replies is None:
            return
        acks.send(self._connection, replies, acks.NAK)
        facts = {"worker": worker, "messages": len(replies)}
        log.warning("a worker is gone; what it held goes to others", extra={"facts": facts})
        try:
            await self._freed(worker)
        except (CallFailed, Refusal, OSError, TimeoutError) as error:
            log.warning("the queue was not told: %s", error)  # Its leases end by themselves.
        await sweep(self._connection, replies, self._me)

    async def _inherit(self, worker: str) -> list[bytes] | None:
        """The ack subjects it claimed, now ours to give back; None: all of them are somebody else's.

        Its last claim may be stored while we look: only what was read is taken out, and then looked again.
        """
        replies: list[bytes] | None = None
        while records := await self._claims.lasts(claimed(worker, "*")):
            newest = max(record.sequence for record in records)
            if not await self._claims.purge(claimed(worker, ">"), before=newest + 1):
                break
            said = (reply for record in records for reply in record.payload.split(b"\n") if reply)
            replies = [*(replies or []), *said]
        return replies
