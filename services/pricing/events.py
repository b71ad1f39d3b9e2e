"""What pricing does when others announce something."""

from typing import Any
from uuid import UUID

from services.chassis.db import Tx, after_commit
from services.chassis.events import Envelope
from services.pricing.mirror import Mirror
from services.pricing.store import item, segment
from services.pricing.taxes import Taxes
from weft.billing.v1.tax_events_pb2 import TaxRateChanged, TaxRateDeleted
from weft.catalog.v1 import events_pb2 as catalog
from weft.identity.v1.events_pb2 import UserDeleted

OF_PRODUCTS = (
    catalog.ProductUpdated,
    catalog.ProductPublished,
    catalog.ProductArchived,
    catalog.ProductDeleted,
    catalog.VariantAdded,
    catalog.VariantUpdated,
    catalog.VariantRemoved,
    catalog.PriceChanged,
    catalog.PriceRemoved,
)
OF_RATES = (TaxRateChanged, TaxRateDeleted)
OF_CATEGORIES = (catalog.CategoryMoved, catalog.CategoryDeleted)


class Catalog:
    """Changes of what the mirror has."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror

    async def product_changed(self, event: Any, envelope: Envelope, tx: Tx) -> None:
        """What is known of its variants is old."""
        await item.outdate(tx, _skus(event), event.product_id)
        after_commit(tx, self._mirror.poke)

    async def category_moved(self, event: Any, envelope: Envelope, tx: Tx) -> None:
        """What stands in it or below it stands elsewhere now."""
        await item.outdate_category(tx, event.category_id)
        after_commit(tx, self._mirror.poke)


class Rates:
    """Changes of tax rates. Other processes forget within the time that a tax is remembered."""

    def __init__(self, taxes: Taxes) -> None:
        self._taxes = taxes

    async def changed(self, event: Any, envelope: Envelope, tx: Tx) -> None:
        self._taxes.forget()


async def user_deleted(event: UserDeleted, envelope: Envelope, tx: Tx) -> None:
    """Nobody is named any more."""
    await segment.forget(tx, UUID(event.user_id))


def _skus(event: Any) -> list[str]:
    """Of variants that may have belonged to another product, or to none that was known."""
    if isinstance(event, catalog.VariantAdded | catalog.VariantUpdated):
        return [event.variant.sku]
    return [event.sku] if hasattr(event, "sku") else []
