"""Gateways are asked here: what is asked is written before, and what came of it after.

Between the two anything may end: the call, this process, the gateway. Then the written operation is found by
`recovering`, the gateway is asked how the payment stands, and only what has not happened is asked again, with
the same key. So nothing is taken or given twice, and nothing is forgotten.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TypeVar
from uuid import UUID

from services.chassis.clock import Clock
from services.chassis.db import Database, Tx
from services.chassis.errors import Unavailable
from services.chassis.events import emit
from services.payment import announcing, purse
from services.payment.domain import dispute as disputes
from services.payment.domain.intent import (
    FINAL,
    WAITING,
    Asked,
    Intent,
    Kind,
    Operation,
    State,
)
from services.payment.domain.remote import (
    Charge,
    DisputeState,
    GatewayAway,
    GatewayRefused,
    Remote,
    RemoteDispute,
)
from services.payment.domain.sealing import Sealer
from services.payment.domain.settling import Settlement
from services.payment.gateways.gateway import Gateway
from services.payment.metrics import CALLS
from services.payment.settings import PaymentSettings
from services.payment.store import dispute as dispute_store, intent as store

T = TypeVar("T")

DOUBLINGS_MAX = 20  # Of a pause; by then every setting's longest pause is reached.


@dataclass(frozen=True, kw_only=True)
class Means:
    """What payments are made with."""

    db: Database
    clock: Clock
    gateways: Mapping[str, Gateway]
    sealer: Sealer
    settings: PaymentSettings


class Payer:
    """Asks gateways, and writes down what they say."""

    def __init__(self, means: Means) -> None:
        self._means, self._db, self._clock = means, means.db, means.clock
        self._settings = means.settings

    def lease(self) -> datetime:
        """Until when an operation that begins now is left to whoever began it."""
        return self._clock.now() + timedelta(seconds=self._settings.lease_s)

    def ref(self, intent: Intent) -> str:
        """The payment's id at its gateway, where that follows from ours."""
        return self._means.gateways[intent.gateway].ref(self._charge(intent))

    def next_look(self, intent: Intent) -> datetime:
        """When the gateway of a payment that waits is asked how it stands."""
        return self._clock.now() + self._pause(self._settings.poll_s, intent.looks)

    async def perform(self, intent: Intent, operation: Operation) -> Settlement | None:
        """Asks what was just written. What is known of the payment then; None: no more than before.

        When it is not known what became of it the operation stays, to be taken up later.
        """
        try:
            return await self._ask(intent, operation)
        except GatewayAway:
            await self._postpone(Asked(operation.kind), operation.operation_id)
            return None

    async def resume(self, kind: Asked, operation_id: UUID, intent_id: UUID) -> None:
        """Takes up what may have been asked before: the gateway says whether it has happened."""
        try:
            await self.look(intent_id)
            async with self._db.transaction() as tx:
                intent = await store.get(tx, intent_id)
                operation = await store.operation(tx, kind, operation_id)
            if operation is not None and operation.pending:
                await self._ask(intent, operation)
        except GatewayAway:
            await self._postpone(kind, operation_id)

    async def look(self, intent_id: UUID) -> None:
        """Asks the gateway how the payment stands, and takes that in. Raises GatewayAway."""
        async with self._db.transaction() as tx:
            intent = await store.get(tx, intent_id)
        charge = self._charge(intent)
        if charge.ref:
            gateway = self._gateway(intent)
            remote = await self._called(gateway.name, "look", lambda: gateway.look(charge))
            await self.settle(intent_id, remote)

    async def settle(self, intent_id: UUID, remote: Remote) -> Settlement:
        """Takes an answer in."""
        async with self._db.transaction() as tx:
            settlement = await self._locked(tx, intent_id)
            settlement.settle(remote)
            await self.conclude(tx, settlement)
            for found in remote.disputes:
                await self.dispute(tx, settlement.intent, found)
        return settlement

    async def conclude(self, tx: Tx, settlement: Settlement) -> None:
        """Writes what followed, tells of it, and says when to look again."""
        intent = settlement.intent
        if intent.state == State.AUTHORISED and intent.kind != Kind.INVOICE:
            hold = timedelta(days=self._settings.hold_days)
            if any(fact for fact in settlement.facts if getattr(fact, "state", "") == State.AUTHORISED):
                intent.expire_at = settlement.now + hold
        elif intent.state == State.AUTHORISED:
            intent.expire_at = None
        if intent.state in WAITING and intent.look_at is None and intent.kind != Kind.BANK_TRANSFER:
            intent.look_at = self.next_look(intent)
        for operation in settlement.operations:
            if operation.pending and operation.kind == Asked.REFUND:  # The gateway takes its time.
                operation.due_at = settlement.now + self._pause(self._settings.poll_s, operation.attempts)
        tx.add_all(settlement.added)
        await tx.flush()
        await purse.follow(tx, intent, settlement.facts, settlement.now)
        await emit(tx, *announcing.of_facts(intent, settlement.facts))

    async def dispute(self, tx: Tx, intent: Intent, found: RemoteDispute) -> None:
        """Takes in how a dispute stands; the payment's row is locked."""
        row = await dispute_store.locked(tx, intent.gateway, found.ref)
        row, told = disputes.follow(intent, row, found, self._clock.now())
        if told:
            tx.add(row)
            await tx.flush()
            await emit(tx, *(announcing.dispute(intent, row, state) for state in told))
        if DisputeState.LOST in told:
            await purse.charge_back(tx, intent, row, self._clock.now())

    async def _ask(self, intent: Intent, operation: Operation) -> Settlement | None:
        if operation.kind == Asked.AUTHORISE and intent.state in FINAL:
            return None  # It was given up: what became of it is left to its release.
        gateway, charge = self._gateway(intent), self._charge(intent)
        try:
            opened = charge if charge.ref else await self._opened(gateway, charge)
            if opened is None:
                return None
            calling = _calling(gateway, opened, operation)
            remote = await self._called(gateway.name, operation.kind.lower(), calling)
            return await self.settle(intent.intent_id, remote)
        except GatewayRefused as refused:
            return await self._refused(operation, refused)

    async def _opened(self, gateway: Gateway, charge: Charge) -> Charge | None:
        """The charge with its id at the gateway, written down; None: it is not wanted any more."""
        ref = await self._called(gateway.name, "open", lambda: gateway.open(charge))
        async with self._db.transaction() as tx:
            intent = await store.get(tx, charge.intent_id, lock=True)
            if intent.state != State.PROCESSING:
                return None
            intent.gateway_ref = intent.gateway_ref or ref
        return replace(charge, ref=intent.gateway_ref)

    async def _refused(self, operation: Operation, refused: GatewayRefused) -> Settlement:
        """Nothing moved by this call; what an earlier one moved is looked for first."""
        await self.look(operation.intent_id)
        async with self._db.transaction() as tx:
            settlement = await self._locked(tx, operation.intent_id)
            same = (each for each in settlement.operations if each.key == operation.key)
            settlement.refuse(next(same), refused.decline)
            await self.conclude(tx, settlement)
        return settlement

    async def _postpone(self, kind: Asked, operation_id: UUID) -> None:
        """It is not known what became of it: asked again later."""
        async with self._db.transaction() as tx:
            operation = await store.operation(tx, kind, operation_id)
            if operation is not None and operation.pending:
                pause = self._pause(self._settings.retry_first_s, operation.attempts)
                operation.due_at = self._clock.now() + pause

    def _pause(self, first_s: float, times: int) -> timedelta:
        seconds = first_s * 2 ** min(times, DOUBLINGS_MAX)
        return timedelta(seconds=min(seconds, self._settings.retry_max_s))

    async def _locked(self, tx: Tx, intent_id: UUID) -> Settlement:
        intent = await store.get(tx, intent_id, lock=True)
        return Settlement(intent, await store.operations(tx, intent_id), self._clock.now())

    def _charge(self, intent: Intent) -> Charge:
        source = None
        if intent.sealed_source is not None:
            source = self._means.sealer.open_source(intent.sealed_source, intent.intent_id)
        return Charge(
            intent_id=intent.intent_id,
            customer_id=intent.customer_id,
            reference=intent.reference,
            amount=intent.owed,
            capture=intent.capture,
            deferred=intent.kind == Kind.INVOICE,
            source=source,
            return_url=intent.return_url,
            ref=intent.gateway_ref,
        )

    def _gateway(self, intent: Intent) -> Gateway:
        """Raises GatewayAway where it is not configured any more: what is open waits until it is."""
        gateway = self._means.gateways.get(intent.gateway)
        if gateway is None:
            raise GatewayAway(intent.gateway)
        return gateway

    async def _called(self, gateway: str, what: str, call: Callable[[], Awaitable[T]]) -> T:
        """The answer, in time. Raises GatewayAway, GatewayRefused."""
        outcome = "away"
        try:
            async with asyncio.timeout(self._settings.call_s):
                answer = await call()
            outcome = "answered"
        except (TimeoutError, Unavailable) as error:  # The latter from our own tables.
            raise GatewayAway from error
        except GatewayRefused:
            outcome = "refused"
            raise
        else:
            return answer
        finally:
            CALLS.labels(gateway, what, outcome).inc()


def _calling(gateway: Gateway, charge: Charge, operation: Operation) -> Callable[[], Awaitable[Remote]]:
    key, amount = operation.key, operation.amount
    if operation.kind == Asked.AUTHORISE:
        return lambda: gateway.authorise(charge)
    if operation.kind == Asked.CAPTURE:
        return lambda: gateway.capture(charge, key, amount, final=operation.final)
    if operation.kind == Asked.VOID:
        return lambda: gateway.void(charge, key)
    return lambda: gateway.refund(charge, key, amount)
