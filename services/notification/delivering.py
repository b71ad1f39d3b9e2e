"""One attempt to deliver a message: claimed and written down, made, and its outcome written down.

Between claim and outcome nothing is locked, so a killed attempt leaves its message waiting until the
lease is over, and then the next attempt begins. What the provider took from a killed attempt is sent
again: one mail per attempt at most, all with the same Message-ID.
"""

import logging
import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from services.chassis.clock import Clock, uuid7
from services.chassis.db import Database, Tx
from services.chassis.errors import Refusal
from services.chassis.events import emit
from services.notification import store
from services.notification.catalogue import Catalogue
from services.notification.channel import Channel, Delivery, Outcome, Result
from services.notification.domain import (
    Attempt,
    Category,
    Message,
    State,
    Suppression,
    UnknownMessage,
    address_key,
)
from services.notification.sealing import Sealing
from services.notification.settings import NotificationSettings
from weft.notification.v1 import events_pb2 as announced

BACKOFF_FACTOR = 3.0

log = logging.getLogger("weft.notification")


@dataclass(frozen=True)
class Unmade:
    """An attempt whose message could not be put together: there is nothing to send."""

    why: str


class Deliverer:
    """Makes attempts."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        catalogue: Catalogue,
        channels: Mapping[str, Channel],
        sealing: Sealing,
        settings: NotificationSettings,
    ) -> None:
        self._db, self._clock, self._catalogue, self._channels = db, clock, catalogue, channels
        self._sealing, self._settings = sealing, settings

    async def attempt(self, message_id: UUID) -> None:
        """Nothing when the message is not due, or another holds it. Raises while the database is away."""
        claimed = await self._claim(message_id)
        if claimed is None:
            return
        channel, number, delivery = claimed
        if isinstance(delivery, Unmade):
            outcome = Outcome(Result.REFUSED, 0, "", delivery.why)
        else:
            outcome = await self._send(channel, delivery)
        await self._settle(message_id, number, outcome)

    async def _claim(self, message_id: UUID) -> tuple[str, int, Delivery | Unmade] | None:
        """Takes the message for a lease, and writes the attempt down."""
        now = self._clock.now()
        async with self._db.transaction() as tx:
            try:
                row = await store.lock(tx, message_id)
            except UnknownMessage:
                return None
            if not row.due(now):
                return None
            if await self._held_back(tx, row):
                row.settle(State.SUPPRESSED, now, timedelta())
                await emit(tx, announced.MessageSuppressed(message_id=str(message_id), user_id=row.user_id))
                return None
            if row.attempts >= self._settings.attempts_max:  # The last one was killed.
                await self._fail(tx, row, "")
                return None
            tx.add(row.begin(now, timedelta(seconds=self._settings.lease_s)))
            return row.channel, row.attempts, self._delivery(row)

    async def _held_back(self, tx: Tx, row: Message) -> bool:
        """Security messages go whatever the reader prefers; to a dead address goes nothing."""
        if await store.suppressed(tx, row.address):
            return True
        return row.category != Category.SECURITY and await store.opted_out(tx, row.address)

    def _delivery(self, row: Message) -> Delivery | Unmade:
        if row.sealed_values is None:
            return Unmade("its values are gone")
        try:
            template = self._catalogue.template(row.template)
            values = self._sealing.unseal(row.sealed_values, row.message_id)
        except (Refusal, ValueError) as error:
            return Unmade(str(error))
        return Delivery(
            message_id=row.message_id,
            number=row.attempts,
            template=template,
            values=values,
            address=row.address,
            locale=row.locale,
            time_zone=row.time_zone,
            accepted_at=row.create_time,
        )

    async def _send(self, channel: str, delivery: Delivery) -> Outcome:
        try:
            return await self._channels[channel].send(delivery)
        except Exception as error:  # A bug; later attempts may run on a build that has none.
            log.exception("an attempt failed", extra={"facts": {"message_id": str(delivery.message_id)}})
            return Outcome(Result.MAY_PASS, 0, "", type(error).__name__)

    async def _settle(self, message_id: UUID, number: int, outcome: Outcome) -> None:
        """Writes the outcome down. What others did meanwhile stays: states only move forward."""
        now = self._clock.now()
        async with self._db.transaction() as tx:
            row = await store.lock(tx, message_id)
            await _end(tx, message_id, number, now, outcome)
            if row.settled:
                return
            if outcome.result is Result.SENT:
                row.settle(State.SENT, now, self._kept)
                sent = announced.MessageSent(attempts=row.attempts, **_ids(row))
                await emit(tx, sent)
            elif outcome.result is Result.MAY_PASS:
                await self._defer(tx, row, number, outcome)
            else:
                await self._fail(tx, row, outcome.status)
                if outcome.result is Result.UNREACHABLE:
                    await self.suppress(tx, row, outcome.status)

    async def _defer(self, tx: Tx, row: Message, number: int, outcome: Outcome) -> None:
        if row.attempts != number:  # It outlived its lease; the next attempt decides.
            return
        if number >= self._settings.attempts_max:
            await self._fail(tx, row, outcome.status)
            return
        row.defer(self._clock.now(), self._backoff(number))
        deferred = announced.MessageDeferred(attempts=row.attempts, status=outcome.status, **_ids(row))
        await emit(tx, deferred)

    async def _fail(self, tx: Tx, row: Message, status: str) -> None:
        row.settle(State.FAILED, self._clock.now(), self._kept)
        await emit(tx, announced.MessageFailed(attempts=row.attempts, status=status, **_ids(row)))

    async def suppress(self, tx: Tx, row: Message, status: str) -> None:
        """Nothing more goes to the address of `row`. Nothing new when it is suppressed already."""
        new = Suppression(
            suppression_id=uuid7(),
            address_key=address_key(row.address),
            address=row.address,
            user_id=row.user_id,
            message_id=row.message_id,
            status=status,
            create_time=self._clock.now(),
        )
        if await store.suppress(tx, new):
            ids = {"suppression_id": str(new.suppression_id), **_ids(row)}
            await emit(tx, announced.AddressSuppressed(**ids))

    @property
    def _kept(self) -> timedelta:
        return timedelta(seconds=self._settings.values_kept_s)

    def _backoff(self, number: int) -> timedelta:
        """Exponential, bounded, and spread over its second half so that retries do not come in waves."""
        longest = self._settings.retry_first_s * BACKOFF_FACTOR ** (number - 1)
        return timedelta(seconds=min(longest, self._settings.retry_max_s) * random.uniform(0.5, 1.0))


async def _end(tx: Tx, message_id: UUID, number: int, now: datetime, outcome: Outcome) -> None:
    attempt = await tx.get_one(Attempt, (message_id, number))
    attempt.ended_at, attempt.code = now, outcome.code
    attempt.status, attempt.reply = outcome.status, outcome.reply


def _ids(row: Message) -> dict[str, str]:
    return {"message_id": str(row.message_id), "user_id": row.user_id}
