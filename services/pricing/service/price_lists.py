"""weft.pricing.v1.PriceListService."""

from typing import Any
from uuid import UUID

from services.chassis.events import emit
from services.chassis.masks import check_etag
from services.chassis.method import Call
from services.chassis.money import exponent
from services.pricing import reading
from services.pricing.domain.price_list import (
    PRICE_LISTS_MAX,
    CurrencyFixed,
    PriceListIdReused,
    PriceListRow,
    TooManyPriceLists,
)
from services.pricing.service import pack
from services.pricing.service.shared import Shared
from services.pricing.store import price_list as store, rulebook
from services.pricing.store.once import written
from weft.pricing.v1 import price_list_pb2 as pb
from weft.pricing.v1.events_pb2 import PriceListChanged, PriceListDeleted, PricesRemoved, PricesSet
from weft.pricing.v1.price_list_pb2_grpc import PriceListServiceServicer


class PriceLists(PriceListServiceServicer):
    def __init__(self, shared: Shared) -> None:
        self._db, self._clock, self._page_key = shared.db, shared.clock, shared.page_key

    async def CreatePriceList(
        self, request: pb.CreatePriceListRequest, call: Call
    ) -> pb.CreatePriceListResponse:
        exponent(request.settings.currency)
        fields, now = _fields(request.settings), self._clock.now()
        price_list_id = UUID(request.price_list_id)
        new = PriceListRow(price_list_id=price_list_id, version=1, created_at=now, updated_at=now, **fields)
        async with self._db.transaction() as tx:
            made = await written(tx, new)
            if made:
                if await store.count(tx) > PRICE_LISTS_MAX:
                    raise TooManyPriceLists(max=PRICE_LISTS_MAX)
                await emit(tx, PriceListChanged(price_list_id=request.price_list_id, version=1))
                await rulebook.changed(tx)
            row = await store.get(tx, price_list_id)
        if not made and any(getattr(row, name) != value for name, value in fields.items()):
            raise PriceListIdReused(price_list_id=price_list_id)
        return pb.CreatePriceListResponse(price_list=pack.price_list(row))

    async def GetPriceList(self, request: pb.GetPriceListRequest, call: Call) -> pb.GetPriceListResponse:
        async with self._db.transaction() as tx:
            row = await store.get(tx, UUID(request.price_list_id))
        return pb.GetPriceListResponse(price_list=pack.price_list(row))

    async def ListPriceLists(
        self, request: pb.ListPriceListsRequest, call: Call
    ) -> pb.ListPriceListsResponse:
        page = store.LISTS.page(request, self._page_key)
        async with self._db.transaction() as tx:
            rows, token = await store.page(tx, page)
        return pb.ListPriceListsResponse(price_lists=map(pack.price_list, rows), next_page_token=token)

    async def UpdatePriceList(
        self, request: pb.UpdatePriceListRequest, call: Call
    ) -> pb.UpdatePriceListResponse:
        fields = _fields(request.settings)
        async with self._db.transaction() as tx:
            row = await store.get(tx, UUID(request.price_list_id), lock=True)
            check_etag(request.etag, row.version)
            if row.currency != request.settings.currency:
                raise CurrencyFixed(currency=row.currency, field="settings.currency")
            if any(getattr(row, name) != value for name, value in fields.items()):
                for name, value in fields.items():
                    setattr(row, name, value)
                row.version, row.updated_at = row.version + 1, self._clock.now()
                await emit(tx, PriceListChanged(price_list_id=request.price_list_id, version=row.version))
                await rulebook.changed(tx)
        return pb.UpdatePriceListResponse(price_list=pack.price_list(row))

    async def DeletePriceList(
        self, request: pb.DeletePriceListRequest, call: Call
    ) -> pb.DeletePriceListResponse:
        async with self._db.transaction() as tx:
            await tx.delete(await store.get(tx, UUID(request.price_list_id), lock=True))
            await emit(tx, PriceListDeleted(price_list_id=request.price_list_id))
            await rulebook.changed(tx)
        return pb.DeletePriceListResponse()

    async def SetPrices(self, request: pb.SetPricesRequest, call: Call) -> pb.SetPricesResponse:
        prices = reading.tiers(request.prices)
        async with self._db.transaction() as tx:
            row = await store.get(tx, UUID(request.price_list_id), lock=True)
            await store.set_prices(tx, row.price_list_id, prices)
            await emit(tx, PricesSet(price_list_id=request.price_list_id, skus=sorted(prices)))
        return pb.SetPricesResponse()

    async def RemovePrices(self, request: pb.RemovePricesRequest, call: Call) -> pb.RemovePricesResponse:
        async with self._db.transaction() as tx:
            row = await store.get(tx, UUID(request.price_list_id), lock=True)
            if gone := await store.remove_prices(tx, row.price_list_id, request.skus):
                await emit(tx, PricesRemoved(price_list_id=request.price_list_id, skus=gone))
        return pb.RemovePricesResponse()

    async def ListPrices(self, request: pb.ListPricesRequest, call: Call) -> pb.ListPricesResponse:
        page = store.PRICES.page(request, self._page_key)
        async with self._db.transaction() as tx:
            row = await store.get(tx, UUID(request.price_list_id))
            rows, token = await store.page_of_prices(tx, page, row.price_list_id)
        return pb.ListPricesResponse(prices=map(pack.listed_price, rows), next_page_token=token)


def _fields(settings: pb.PriceListSettings) -> dict[str, Any]:
    """As the row has them. Raises ValidityRefused."""
    validity = reading.validity(settings)
    validity.check("settings.valid_to")
    return {
        "name": settings.name,
        "currency": settings.currency,
        "segments": sorted(settings.segments),
        "countries": sorted(settings.countries),
        "valid_from": validity.since,
        "valid_to": validity.until,
        "priority": settings.priority,
        "tax_included": settings.tax_included,
    }
