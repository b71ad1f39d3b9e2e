"""Rows as messages of the wire."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from services.chassis.masks import etag
from services.pricing.domain.coupon import CouponRow
from services.pricing.domain.price_list import ListedPriceRow, PriceListRow
from services.pricing.domain.promotion import PromotionRow
from services.pricing.domain.segment import SegmentMemberRow
from services.pricing.reading import money
from services.pricing.service.telling import plain
from weft.pricing.v1 import coupon_pb2, price_list_pb2, promotion_pb2, redemption_pb2, segment_pb2
from weft.pricing.v1.promotion_settings_pb2 import PromotionSettings


def stamp(at: datetime | None) -> Timestamp | None:
    if at is None:
        return None
    made = Timestamp()
    made.FromDatetime(at)
    return made


def redemption(row: Any, uses: Sequence[Any]) -> redemption_pb2.Redemption:
    return redemption_pb2.Redemption(
        redemption_id=str(row["redemption_id"]),
        quote_id=str(row["quote_id"] or ""),
        customer_id=str(row["customer_id"] or ""),
        state=redemption_pb2.RedemptionState.Value(f"REDEMPTION_STATE_{row['state']}"),
        promotions=[
            redemption_pb2.RedeemedPromotion(
                promotion_id=str(use["promotion_id"]),
                code=use["code"],
                amount=money(use["amount_minor"], use["currency"]),
            )
            for use in uses
        ],
        create_time=stamp(row["created_at"]),
        release_time=stamp(row["released_at"]),
    )


def price_list(row: PriceListRow) -> price_list_pb2.PriceList:
    return price_list_pb2.PriceList(
        price_list_id=str(row.price_list_id),
        settings=price_list_pb2.PriceListSettings(
            name=row.name,
            currency=row.currency,
            segments=row.segments,
            countries=row.countries,
            valid_from=stamp(row.valid_from),
            valid_to=stamp(row.valid_to),
            priority=row.priority,
            tax_included=row.tax_included,
        ),
        create_time=stamp(row.created_at),
        update_time=stamp(row.updated_at),
        etag=etag(row.version),
    )


def listed_price(row: ListedPriceRow) -> price_list_pb2.ListedPrice:
    tiers = [
        price_list_pb2.PriceTier(min_units=low, unit_price=plain(price))
        for low, price in zip(row.min_units, row.unit_prices, strict=True)
    ]
    return price_list_pb2.ListedPrice(sku=row.sku, tiers=tiers)


def promotion(row: PromotionRow) -> promotion_pb2.Promotion:
    return promotion_pb2.Promotion(
        promotion_id=str(row.promotion_id),
        state=promotion_pb2.PromotionState.Value(f"PROMOTION_STATE_{row.state}"),
        settings=PromotionSettings.FromString(row.settings),
        uses=row.uses,
        spent=money(row.spent_minor, row.currency) if row.budget_minor is not None else None,
        create_time=stamp(row.created_at),
        update_time=stamp(row.updated_at),
        etag=etag(row.version),
    )


def coupon(row: CouponRow) -> coupon_pb2.Coupon:
    return coupon_pb2.Coupon(
        code=row.code,
        promotion_id=str(row.promotion_id),
        batch_id=str(row.batch_id or ""),
        uses_max=row.uses_max or 0,
        uses=row.uses,
        valid_to=stamp(row.valid_to),
        revoked=row.revoked,
        create_time=stamp(row.created_at),
    )


def member(row: SegmentMemberRow) -> segment_pb2.SegmentMember:
    return segment_pb2.SegmentMember(
        segment=row.segment, customer_id=str(row.customer_id), valid_to=stamp(row.valid_to)
    )
