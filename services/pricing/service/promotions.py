"""weft.pricing.v1.PromotionService."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from services.chassis.db import Tx
from services.chassis.events import emit
from services.chassis.masks import check_etag
from services.chassis.method import Call
from services.pricing import reading
from services.pricing.domain.price_list import CurrencyFixed
from services.pricing.domain.promotion import (
    ACTIVE_MAX,
    Promotion,
    PromotionArchived,
    PromotionIdReused,
    PromotionRow,
    State,
    TooManyPromotions,
)
from services.pricing.reading import money
from services.pricing.service import pack
from services.pricing.service.shared import Shared
from services.pricing.store import promotion as store, rulebook
from services.pricing.store.once import written
from weft.pricing.v1 import promotion_pb2 as pb
from weft.pricing.v1.events_pb2 import PromotionChanged
from weft.pricing.v1.promotion_pb2_grpc import PromotionServiceServicer

COUNTED = ("uses_max", "uses_per_customer_max", "budget_minor")  # Limits whose uses are counted.


class Promotions(PromotionServiceServicer):
    def __init__(self, shared: Shared) -> None:
        self._db, self._clock, self._page_key = shared.db, shared.clock, shared.page_key

    async def CreatePromotion(
        self, request: pb.CreatePromotionRequest, call: Call
    ) -> pb.CreatePromotionResponse:
        promotion_id, now = UUID(request.promotion_id), self._clock.now()
        fields = _fields(reading.checked(promotion_id, request.settings))
        settings = request.settings.SerializeToString(deterministic=True)
        new = PromotionRow(promotion_id=promotion_id, settings=settings, **fields)
        new.state, new.uses, new.spent_minor, new.version = State.DRAFT.value, 0, 0, 1
        new.created_at = new.updated_at = now
        async with self._db.transaction() as tx:
            made = await written(tx, new)
            row = await store.get(tx, promotion_id)
            if made:
                await emit(tx, _changed(row))
        if not made and row.settings != settings:
            raise PromotionIdReused(promotion_id=promotion_id)
        return pb.CreatePromotionResponse(promotion=pack.promotion(row))

    async def GetPromotion(self, request: pb.GetPromotionRequest, call: Call) -> pb.GetPromotionResponse:
        async with self._db.transaction() as tx:
            row = await store.get(tx, UUID(request.promotion_id))
        return pb.GetPromotionResponse(promotion=pack.promotion(row))

    async def ListPromotions(
        self, request: pb.ListPromotionsRequest, call: Call
    ) -> pb.ListPromotionsResponse:
        page = store.PROMOTIONS.page(request, self._page_key)
        async with self._db.transaction() as tx:
            rows, token = await store.page(tx, page)
        return pb.ListPromotionsResponse(promotions=map(pack.promotion, rows), next_page_token=token)

    async def UpdatePromotion(
        self, request: pb.UpdatePromotionRequest, call: Call
    ) -> pb.UpdatePromotionResponse:
        promotion_id = UUID(request.promotion_id)
        fields = _fields(reading.checked(promotion_id, request.settings))
        settings = request.settings.SerializeToString(deterministic=True)
        async with self._db.transaction() as tx:
            row = await store.get(tx, promotion_id, lock=True)
            check_etag(request.etag, row.version)
            if row.state == State.ARCHIVED.value:
                raise PromotionArchived(promotion_id=promotion_id)
            if row.settings != settings:
                await _replace(tx, row, fields, settings)
                await self._changed(tx, row)
        return pb.UpdatePromotionResponse(promotion=pack.promotion(row))

    async def ActivatePromotion(
        self, request: pb.ActivatePromotionRequest, call: Call
    ) -> pb.ActivatePromotionResponse:
        row = await self._move(request.promotion_id, State.ACTIVE)
        return pb.ActivatePromotionResponse(promotion=pack.promotion(row))

    async def PausePromotion(
        self, request: pb.PausePromotionRequest, call: Call
    ) -> pb.PausePromotionResponse:
        row = await self._move(request.promotion_id, State.PAUSED)
        return pb.PausePromotionResponse(promotion=pack.promotion(row))

    async def ArchivePromotion(
        self, request: pb.ArchivePromotionRequest, call: Call
    ) -> pb.ArchivePromotionResponse:
        row = await self._move(request.promotion_id, State.ARCHIVED)
        return pb.ArchivePromotionResponse(promotion=pack.promotion(row))

    async def _move(self, promotion_id: str, state: State) -> PromotionRow:
        async with self._db.transaction() as tx:
            row = await store.get(tx, UUID(promotion_id), lock=True)
            if row.move(state):
                await self._changed(tx, row)
                if state is State.ACTIVE and await store.active(tx) > ACTIVE_MAX:
                    raise TooManyPromotions(max=ACTIVE_MAX)
        return row

    async def _changed(self, tx: Tx, row: PromotionRow) -> None:
        row.version, row.updated_at = row.version + 1, self._clock.now()
        await tx.flush()
        await emit(tx, _changed(row))
        await rulebook.changed(tx)

    async def GetPromotionReport(
        self, request: pb.GetPromotionReportRequest, call: Call
    ) -> pb.GetPromotionReportResponse:
        promotion_id = UUID(request.promotion_id)
        since, until = (reading.moment(request, name) for name in ("from", "to"))
        async with self._db.transaction() as tx:
            await store.get(tx, promotion_id)
            days = await store.days(tx, promotion_id, since, until)
            people = await store.people(tx, promotion_id, since, until)
        return pb.GetPromotionReportResponse(
            totals=_totals(days),
            customers=people["customers"],
            released=people["released"],
            days=[_use(str(day["day"]), day["currency"], [day]) for day in days[-store.DAYS_MAX :]],
        )


async def _replace(tx: Tx, row: PromotionRow, fields: dict[str, Any], settings: bytes) -> None:
    """Takes new settings over; what is limited for the first time is counted from its beginning.

    Raises CurrencyFixed.
    """
    if row.currency != fields["currency"] and (row.spent_minor or row.budget_minor is not None):
        raise CurrencyFixed(currency=row.currency, field="settings.currency")
    uncounted = any(getattr(row, name) is None and fields[name] is not None for name in COUNTED)
    for name, value in fields.items():
        setattr(row, name, value)
    row.settings = settings
    if uncounted:
        await tx.flush()
        await store.count(tx, row.promotion_id)
        await tx.refresh(row)


def _fields(made: Promotion) -> dict[str, Any]:
    """As the row has them, beside the settings."""
    return {
        "name": made.name,
        "priority": made.priority,
        "coupon_needed": made.coupon_needed,
        "currency": made.currency,
        "valid_from": made.validity.since,
        "valid_to": made.validity.until,
        "uses_max": made.limits.uses_max,
        "uses_per_customer_max": made.limits.uses_per_customer_max,
        "uses_per_coupon_max": made.limits.uses_per_coupon_max,
        "budget_minor": made.limits.budget_minor,
    }


def _changed(row: PromotionRow) -> PromotionChanged:
    state = pb.PromotionState.Value(f"PROMOTION_STATE_{row.state}")
    return PromotionChanged(promotion_id=str(row.promotion_id), state=state, version=row.version)


def _totals(days: Iterable[Any]) -> list[pb.PromotionUse]:
    """Of each currency, over all days."""
    found: dict[str, list[Any]] = {}
    for day in days:
        found.setdefault(day["currency"], []).append(day)
    return [_use("", currency, rows) for currency, rows in sorted(found.items())]


def _use(date: str, currency: str, rows: Iterable[Any]) -> pb.PromotionUse:
    rows = list(rows)
    return pb.PromotionUse(
        date=date,
        uses=sum(row["uses"] for row in rows),
        discount=money(sum(row["discount"] for row in rows), currency),
        orders_net=money(sum(row["net"] for row in rows), currency),
    )
