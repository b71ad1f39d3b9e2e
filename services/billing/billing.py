"""Bills subscriptions whose time has come: in batches, each one transaction, each period once.

A subscription's row says when it is billed next. It is locked, billed and moved on together with its invoice
and their events; so whoever is killed, whenever, leaves either all of a batch or nothing of it.
"""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from services.billing import telling
from services.billing.domain import periods
from services.billing.domain.charge import Usage
from services.billing.domain.invoice import InvoiceKind
from services.billing.domain.plan import Terms
from services.billing.domain.subscription import Running, State
from services.billing.domain.totals import Line
from services.billing.issuing import Draft, Issuer
from services.billing.store import run as runs, subscription as store, usage as usages
from services.billing.store.plan import Key, TermsOf
from services.chassis.clock import Clock, uuid7
from services.chassis.db import AnyTx, Connection, Database
from services.chassis.errors import Refusal
from services.chassis.events import emit

BATCH_CUSTOMERS = 500  # Billed in one transaction: about 0.3 s, and what a crash does over.
RETRY_AFTER = timedelta(hours=1)  # What could not be billed (a tax rate is missing) is tried again then.
METERED = (State.ACTIVE, State.PAUSED)
INTERNAL = "INTERNAL"

log = logging.getLogger("weft.billing")


@dataclass(slots=True)
class Passed:
    """A subscription whose time has come, and what that made of it."""

    sub: Running
    before: telling.Standing
    at: datetime
    lines: list[Line]
    kind: InvoiceKind = InvoiceKind.SUBSCRIPTION


@dataclass(slots=True)
class Batch:
    """What one transaction billed."""

    subscriptions: int = 0
    invoices: list[UUID] = field(default_factory=list)
    failures: int = 0


class Biller:
    """Bills what is due."""

    def __init__(self, db: Database, clock: Clock, terms: TermsOf, issuer: Issuer) -> None:
        self._db, self._clock, self._terms, self._issuer = db, clock, terms, issuer

    async def batch(self, as_of: datetime, run_id: UUID | None = None) -> Batch:
        """Bills one batch; one that is empty says that nothing is left."""
        async with self._db.fast() as tx:
            due = await store.due(tx, as_of, self._clock.now(), BATCH_CUSTOMERS)
            done = await self._bill(tx, due, as_of, run_id)
            if run_id and due:
                await runs.count(tx, run_id, len(done.invoices), done.subscriptions, done.failures)
            return done

    async def of_customer(self, customer_id: UUID) -> Batch:
        """Bills what is due of one customer, now, and nobody else's."""
        async with self._db.fast() as tx:
            now = self._clock.now()
            return await self._bill(tx, await store.due_of(tx, now, customer_id), now, None)

    async def _bill(
        self, tx: Connection, due: Sequence[Running], as_of: datetime, run_id: UUID | None
    ) -> Batch:
        if not due:
            return Batch()
        now = self._clock.now()
        terms = await self._terms.many(tx, _plans(due))
        seen = await self.seen(tx, [(sub, terms[_plan(sub)]) for sub in due], None)
        passed: list[Passed] = []
        failed: list[tuple[UUID, str]] = []
        for sub in due:
            try:
                passed.append(_passed(sub, terms, seen[sub.subscription_id], as_of))
            except Refusal as refused:
                failed.append((sub.subscription_id, refused.reason()))
            except Exception:  # A bug, met by one of many: the others are none the worse.
                log.exception("cannot be billed", extra={"facts": {"subscription": str(sub.subscription_id)}})
                failed.append((sub.subscription_id, INTERNAL))
        groups = _grouped(passed)
        issued = await self._issuer.issue(tx, [_draft(of_one, run_id, now) for of_one in groups], now)
        saved: list[Passed] = []
        for of_one, each in zip(groups, issued, strict=True):
            if each.refused:
                failed += [(one.sub.subscription_id, each.refused.reason()) for one in of_one]
            else:
                saved += of_one
        await self._save(tx, saved, failed, terms, now)
        invoices = [each.draft.invoice_id for each in issued if each.number]
        return Batch(len(due), invoices, len(failed))

    async def _save(
        self,
        tx: AnyTx,
        saved: Sequence[Passed],
        failed: Sequence[tuple[UUID, str]],
        terms: Mapping[Key, Terms],
        now: datetime,
    ) -> None:
        for each in saved:
            each.sub.revision, each.sub.updated_at = each.sub.revision + 1, now
            each.sub.problem, each.sub.retry_at, each.sub.held_at = "", None, None
        await store.save(tx, [each.sub for each in saved])
        await store.postpone(tx, failed, now + RETRY_AFTER)
        events = [
            event
            for each in saved
            for event in telling.passed(each.before, each.sub, terms[_plan(each.sub)], each.at)
        ]
        await emit(tx, *events)

    async def seen(
        self, tx: AnyTx, subs: Sequence[tuple[Running, Terms]], until: datetime | None
    ) -> Mapping[UUID, dict[str, Usage]]:
        """What the meters of each saw since they were last billed, by charge. `until` None: it is due."""
        asked: list[usages.Asked] = []
        by_event: list[usages.Asked] = []
        for sub, terms in subs:
            end = until or sub.next_bill_at
            if sub.state not in METERED or sub.usage_start is None or end is None:
                continue
            for charge in terms.charges:
                if not charge.recurring:
                    window = (sub.subscription_id, charge.meter, sub.usage_start, end)
                    (by_event if charge.needs_events else asked).append(window)
        met = await usages.seen(tx, list(dict.fromkeys(asked)), list(dict.fromkeys(by_event)))
        found: dict[UUID, dict[str, Usage]] = defaultdict(dict)
        for sub, terms in subs:
            for charge in terms.charges:
                if (usage := met.get((sub.subscription_id, charge.meter))) is not None:
                    found[sub.subscription_id][charge.code] = usage
        return found


def _plan(sub: Running) -> Key:
    return sub.plan_id, sub.plan_version


def _plans(due: Sequence[Running]) -> list[Key]:
    following = [key for sub in due if (key := next_plan(sub))]
    return list(dict.fromkeys([*map(_plan, due), *following]))


def next_plan(sub: Running) -> Key | None:
    """The version that it will have with its next period, if that was chosen."""
    if sub.next_quantity is None:
        return None
    return sub.next_plan_id or sub.plan_id, sub.next_plan_version or sub.plan_version


def _passed(sub: Running, terms: Mapping[Key, Terms], seen: Mapping[str, Usage], as_of: datetime) -> Passed:
    """What its period billed; of one that goes on, what a change of it left to be billed."""
    mine, key = terms[_plan(sub)], next_plan(sub)
    before = telling.standing(sub, mine)
    lines, sub.pending = sub.pending, []
    at = sub.next_bill_at
    if at is None or at > as_of:
        assert sub.held_at
        return Passed(sub, before, sub.held_at, lines, InvoiceKind.CHANGE)
    following = periods.Wanted(terms[key], sub.next_quantity or 0) if key else None
    return Passed(sub, before, at, lines + periods.pass_on(sub, mine, following, seen))


def _grouped(passed: Sequence[Passed]) -> list[list[Passed]]:
    """By invoice: what a customer owes in one currency for one moment."""
    groups: dict[tuple[UUID, str, datetime, InvoiceKind], list[Passed]] = defaultdict(list)
    for each in passed:
        groups[each.sub.customer_id, each.sub.currency, each.at, each.kind].append(each)
    return list(groups.values())


def _draft(of_one: Sequence[Passed], run_id: UUID | None, now: datetime) -> Draft:
    first = of_one[0]
    return Draft(
        invoice_id=uuid7(now),
        customer_id=first.sub.customer_id,
        currency=first.sub.currency,
        kind=first.kind,
        at=first.at,
        created_at=now,
        lines=[line for each in of_one for line in each.lines],
        subs=[each.sub for each in of_one],
        run_id=run_id,
    )
