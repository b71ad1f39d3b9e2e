"""Changes of one subscription: its row is locked, changed, invoiced and announced in one transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.billing import telling
from services.billing.billing import RETRY_AFTER, Biller
from services.billing.crediting import Crediting
from services.billing.domain import periods
from services.billing.domain.invoice import InvoiceKind, TaxUnconfirmed
from services.billing.domain.periods import Wanted
from services.billing.domain.plan import PlanHasEnded, Terms, is_upgrade
from services.billing.domain.profile import Standing
from services.billing.domain.subscription import (
    ChangesBlocked,
    CurrencyDiffers,
    Running,
    State,
    UnknownSubscription,
)
from services.billing.domain.totals import Line
from services.billing.issuing import Draft, Issued, Issuer
from services.billing.store import plan as plans, profile as profiles, subscription as store
from services.billing.store.plan import Key, TermsOf
from services.chassis.clock import Clock, uuid7
from services.chassis.db import AnyTx, Database
from services.chassis.events import emit

BLOCKING = (Standing.BLOCKED, Standing.SUSPENDED)


@dataclass(frozen=True, slots=True)
class Choice:
    """What somebody wants a subscription to become. None: as it is."""

    plan_id: UUID | None
    quantity: int | None


@dataclass(slots=True)
class Changed:
    """A subscription, and the invoice that came of it."""

    sub: Running
    invoice_id: UUID | None = None


class Changing:
    """Changes subscriptions."""

    def __init__(
        self, db: Database, clock: Clock, terms: TermsOf, issuer: Issuer, biller: Biller, crediting: Crediting
    ) -> None:
        self._db, self._clock, self._terms = db, clock, terms
        self._issuer, self._biller, self._crediting = issuer, biller, crediting

    async def take(self, tx: AnyTx, subscription_id: UUID, customer_id: UUID | None) -> Running:
        """Locked. Raises UnknownSubscription, also of another customer."""
        sub = await store.lock(tx, subscription_id)
        if customer_id and sub.customer_id != customer_id:
            raise UnknownSubscription(subscription_id=subscription_id)
        return sub

    async def unblocked(self, tx: AnyTx, customer_id: UUID) -> None:
        """Raises ChangesBlocked, UnknownProfile."""
        standing = await profiles.standing(tx, customer_id)
        if standing in BLOCKING:
            raise ChangesBlocked(customer_id=customer_id, standing=standing)

    async def wanted(self, tx: AnyTx, sub: Running, choice: Choice) -> tuple[Key, Wanted]:
        """Raises UnknownPlan, PlanHasEnded, CurrencyDiffers."""
        key = (sub.plan_id, sub.plan_version)
        if choice.plan_id:
            newest = await plans.newest(tx, choice.plan_id)
            if newest["archived_at"] and choice.plan_id != sub.plan_id:
                raise PlanHasEnded(plan_id=choice.plan_id)
            if newest["currency"] != sub.currency:
                raise CurrencyDiffers(
                    subscription_id=sub.subscription_id,
                    currency=sub.currency,
                    plan_id=choice.plan_id,
                    other=newest["currency"],
                )
            key = (choice.plan_id, newest["version"])
        quantity = sub.quantity if choice.quantity is None else choice.quantity
        return key, Wanted(await self._terms.one(tx, *key), quantity)

    async def change(
        self, tx: AnyTx, sub: Running, choice: Choice, now_or_later: bool | None, bill_later: bool
    ) -> Changed:
        """`now_or_later`: True at once, False with the next period, None as the change is."""
        sub.may("change")
        await self.unblocked(tx, sub.customer_id)
        old = await self._terms.one(tx, sub.plan_id, sub.plan_version)
        key, wanted = await self.wanted(tx, sub, choice)
        at_once = is_upgrade(old, sub.quantity, wanted.terms, wanted.quantity)
        if now_or_later is not None:
            at_once = now_or_later
        if not at_once and sub.state is not State.SCHEDULED:
            sub.schedule(*key, wanted.quantity)
            return await self._saved(tx, sub, telling.standing(sub, old), old)
        before, now = telling.standing(sub, old), self._clock.now()
        lines = await self._change_lines(tx, sub, old, key, wanted, now)
        changed = await self._saved(tx, sub, before, wanted.terms, save=False)
        if any(line.amount > 0 for line in lines) and not bill_later:
            changed.invoice_id = await self._invoice(tx, sub, lines, now)
        else:
            sub.pending += lines
        await store.save(tx, [sub])
        return changed

    async def _change_lines(
        self, tx: AnyTx, sub: Running, old: Terms, key: Key, wanted: Wanted, now: datetime
    ) -> list[Line]:
        seen = await self._biller.seen(tx, [(sub, old)], now)
        lines = periods.change(sub, old, wanted, seen[sub.subscription_id], now)
        sub.plan_id, sub.plan_version = key
        sub.schedule(None, None, None)
        return lines

    async def preview(
        self, tx: AnyTx, subscription_id: UUID, customer_id: UUID | None, choice: Choice
    ) -> tuple[Running, Sequence[Line], bool]:
        """What a change at once would bill; the caller rolls back, or keeps nothing of it."""
        sub = await self.take(tx, subscription_id, customer_id)
        sub.may("change")
        old = await self._terms.one(tx, sub.plan_id, sub.plan_version)
        key, wanted = await self.wanted(tx, sub, choice)
        upgrade = is_upgrade(old, sub.quantity, wanted.terms, wanted.quantity)
        return sub, await self._change_lines(tx, sub, old, key, wanted, self._clock.now()), upgrade

    async def pause(self, tx: AnyTx, sub: Running) -> Changed:
        if sub.state is State.PAUSED:
            return Changed(sub)
        sub.may("pause")
        terms = await self._terms.one(tx, sub.plan_id, sub.plan_version)
        before = telling.standing(sub, terms)
        sub.pending += periods.pause(sub, terms, self._clock.now())
        return await self._saved(tx, sub, before, terms)

    async def resume(self, tx: AnyTx, sub: Running) -> Changed:
        if sub.state is State.ACTIVE:
            return Changed(sub)
        sub.may("resume")
        await self.unblocked(tx, sub.customer_id)
        terms, now = await self._terms.one(tx, sub.plan_id, sub.plan_version), self._clock.now()
        before = telling.standing(sub, terms)
        lines = periods.resume(sub, terms, now)
        changed = await self._saved(tx, sub, before, terms, save=False)
        if lines:
            changed.invoice_id = await self._invoice(tx, sub, lines, now)
        await store.save(tx, [sub])
        return changed

    async def cancel(self, tx: AnyTx, sub: Running, *, now: bool, credit: bool) -> Changed:
        if sub.state is State.CANCELLED or (sub.cancel_at and not now):
            return Changed(sub)
        sub.may("cancel" if now else "cancel at the end of its period")
        terms = await self._terms.one(tx, sub.plan_id, sub.plan_version)
        before, at = telling.standing(sub, terms), self._clock.now()
        if not now:
            sub.cancel_at = sub.period_end
            sub.schedule(None, None, None)
            return await self._saved(tx, sub, before, terms)
        seen = await self._biller.seen(tx, [(sub, terms)], at)
        lines = periods.cancel(sub, terms, seen[sub.subscription_id], at, credit=credit)
        changed = await self._saved(tx, sub, before, terms, save=False)
        changed.invoice_id = await self._last_invoice(tx, sub, lines, at)
        await store.save(tx, [sub])
        return changed

    async def keep(self, tx: AnyTx, sub: Running) -> Changed:
        """No end, and no change, with the period."""
        if sub.cancel_at is None and sub.next_quantity is None:
            return Changed(sub)
        sub.may("be kept")
        terms = await self._terms.one(tx, sub.plan_id, sub.plan_version)
        before = telling.standing(sub, terms)
        sub.cancel_at = None
        sub.schedule(None, None, None)
        return await self._saved(tx, sub, before, terms)

    async def _saved(
        self, tx: AnyTx, sub: Running, before: telling.Standing, terms: Terms, *, save: bool = True
    ) -> Changed:
        """Announces what has become of it. `save`: nothing more happens to it."""
        now = self._clock.now()
        sub.revision, sub.updated_at = sub.revision + 1, now
        await emit(tx, *telling.passed(before, sub, terms, now))
        if save:
            await store.save(tx, [sub])
        return Changed(sub)

    async def _invoice(
        self, tx: AnyTx, sub: Running, lines: list[Line], now: datetime, *, last: bool = False
    ) -> UUID | None:
        """Of what waited and what is new; or none yet, while the tax of the buyer is an open question.

        Then the next billing run that knows makes it, as it does with that of a period.
        """
        waiting, sub.pending = sub.pending, []
        draft = Draft(
            invoice_id=uuid7(now),
            customer_id=sub.customer_id,
            currency=sub.currency,
            kind=InvoiceKind.CHANGE,
            at=now,
            created_at=now,
            lines=waiting + lines,
            subs=[sub],
            last=last,
        )
        try:
            issued: Issued = await self._issuer.one(tx, draft, now)
        except TaxUnconfirmed as refused:
            sub.pending = waiting + lines
            sub.held_at = sub.held_at or now
            sub.problem, sub.retry_at = refused.reason(), now + RETRY_AFTER
            return None
        sub.problem, sub.retry_at, sub.held_at = "", None, None
        return draft.invoice_id if issued.number else None

    async def _last_invoice(self, tx: AnyTx, sub: Running, lines: list[Line], now: datetime) -> UUID | None:
        """What is owed at the end; what is given back beyond that becomes a credit note."""
        wanted = sub.pending or lines
        invoice_id = await self._invoice(tx, sub, lines, now, last=True) if wanted else None
        left, sub.pending = sub.pending, []
        await self._crediting.give_back(tx, sub, left, now)
        return invoice_id
