"""weft.billing.v1.UsageService."""

from decimal import Decimal
from uuid import UUID

from services.billing.domain.charge import ONE, rounded, usage_cost
from services.billing.domain.periods import NO_USAGE
from services.billing.domain.usage import UsageEvent, UsageIdReused, counts_at
from services.billing.service.shared import Shared
from services.billing.service.stamps import maybe_id, moment, plain, stamp
from services.billing.service.terms import exact
from services.billing.store import subscription as subscriptions, usage as store
from services.chassis.db import Connection
from services.chassis.method import Call
from weft.billing.v1 import usage_pb2 as pb
from weft.billing.v1.usage_pb2_grpc import UsageServiceServicer

# What two records of one event must agree in.
SAME = ("meter", "value", "unique_key", "at")


class Usages(UsageServiceServicer):
    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    async def RecordUsage(self, request: pb.RecordUsageRequest, call: Call) -> pb.RecordUsageResponse:
        now = self._shared.clock.now()
        events: dict[tuple[UUID, str], UsageEvent] = {}
        for given in request.events:
            event = _event(given, now)
            first = events.setdefault((event.subscription_id, event.event_id), event)
            _same(first, event, given.HasField("time"))
        timed = {(UUID(e.subscription_id), e.event_id) for e in request.events if e.HasField("time")}
        async with self._shared.db.fast() as tx:
            known = await store.written(tx, list(events))
            for key, row in known.items():
                _same(row, events[key], key in timed)
            fresh = [event for key, event in events.items() if key not in known]
            recorded = await self._write(tx, fresh) if fresh else 0
        return pb.RecordUsageResponse(recorded=recorded)

    async def _write(self, tx: Connection, fresh: list[UsageEvent]) -> int:
        subs = await subscriptions.share(tx, sorted({event.subscription_id for event in fresh}))
        for event in fresh:
            sub = subs[event.subscription_id]
            event.counts_at = counts_at(sub, event.event_id, event.at, event.recorded_at)
        new = await store.write(tx, fresh)
        if len(new) < len(fresh):  # Another call recorded some at the same time.
            keys = [(event.subscription_id, event.event_id) for event in fresh]
            rows = await store.written(tx, keys)
            for event in fresh:
                _same(rows[event.subscription_id, event.event_id], event, True)
        return len(new)

    async def GetUsage(self, request: pb.GetUsageRequest, call: Call) -> pb.GetUsageResponse:
        async with self._shared.db.fast() as tx:
            sub = await subscriptions.get(tx, UUID(request.subscription_id), maybe_id(request.customer_id))
            terms = await self._shared.terms.one(tx, sub.plan_id, sub.plan_version)
            seen = await self._shared.biller.seen(tx, [(sub, terms)], sub.period_end)
        made = []
        for charge in terms.charges:
            if not charge.recurring:
                units, cost = usage_cost(charge, seen[sub.subscription_id].get(charge.code, NO_USAGE))
                amount = rounded(cost, terms.currency)
                made.append(
                    pb.ChargeUsage(
                        charge=charge.code, meter=charge.meter, units=plain(units), amount_minor=amount
                    )
                )
        return pb.GetUsageResponse(charges=made, currency=sub.currency, since_time=stamp(sub.usage_start))


def _event(given: pb.UsageEvent, now: object) -> UsageEvent:
    value: Decimal = exact(given.value, ONE) if given.value else ONE
    return UsageEvent(
        subscription_id=UUID(given.subscription_id),
        event_id=given.event_id,
        meter=given.meter,
        value=value,
        unique_key=given.unique_key,
        at=moment(given.time) if given.HasField("time") else now,
        recorded_at=now,
    )


def _same(first: object, second: UsageEvent, timed: bool) -> None:
    """Raises UsageIdReused. Of an event whose time nobody said, the time is not compared."""
    names = SAME if timed else SAME[:-1]
    for name in names:
        mine = first[name] if not isinstance(first, UsageEvent) else getattr(first, name)  # type: ignore[index]
        if mine != getattr(second, name):
            raise UsageIdReused(event_id=second.event_id)
