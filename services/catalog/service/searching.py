"""ProductService.SearchProducts."""

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any
from uuid import UUID

from services.catalog.domain import words
from services.catalog.domain.refusals import SearchRefused, UnknownCategory
from services.catalog.service.shared import Shared
from services.catalog.store import products, search, stock, tree
from services.catalog.store.search import Wanted
from services.chassis.method import Call
from weft.catalog.v1 import search_pb2 as pb
from weft.catalog.v1.product_messages_pb2 import Product
from weft.money.v1.money_pb2 import UnitPrice

IN_STOCK = "in_stock"
FACETS = "catalog.facets"  # A feature that may be switched off: counting is the dearest part of a search.


class Searching:
    """The part of ProductService that finds."""

    def __init__(self, shared: Shared) -> None:
        self._shared, self._db = shared, shared.db

    async def SearchProducts(
        self, request: pb.SearchProductsRequest, call: Call
    ) -> pb.SearchProductsResponse:
        asked = words.words(request.text)
        if len(asked) > words.QUERY_WORDS_MAX:
            raise SearchRefused(field="text", why=f"it has more than {words.QUERY_WORDS_MAX} words")
        if request.text and not asked:
            return pb.SearchProductsResponse()
        corrected = await search.alike(self._db, [word for word in asked if words.correctable(word)])
        query = words.query([corrected.get(word, [word]) for word in asked])
        wanted = await self._wanted(request, query)
        results = search.Results(wanted)
        page = results.listing.page(request, self._shared.page_key)
        rows, token = page.cut(await results.rows(self._db, page))
        response = pb.SearchProductsResponse(
            products=await self._products(rows, wanted), next_page_token=token
        )
        if not request.page_token:
            response.total = await search.total(self._db, wanted)
            if not self._shared.modes.off(FACETS):
                response.facets.extend(await self._facets(wanted, request.facets))
        response.corrections.extend(
            pb.Correction(word=word, read_as=read_as) for word, read_as in corrected.items()
        )
        return response

    async def _wanted(self, request: pb.SearchProductsRequest, query: str) -> Wanted:
        """Raises UnknownCategory, SearchRefused."""
        ways = {part.split()[0] for part in request.order_by.split(",") if part.split()}
        least, most = request.price.min, request.price.max
        currency = request.currency or least.currency or most.currency
        if {least.currency, most.currency} - {"", currency}:
            raise SearchRefused(field="currency", why="the price range is in another")
        if "price" in ways and not currency:
            raise SearchRefused(field="order_by", why="prices are ordered in a currency; name it")
        terms: dict[str, Sequence[str]] = {}
        for each in request.filters:
            if each.facet in terms or each.facet == IN_STOCK:
                raise SearchRefused(
                    field="filters", why=f"{each.facet} comes once, and in_stock by its field"
                )
            terms[each.facet] = [f"{each.facet}={value}" for value in each.values]
        wanted = Wanted(
            at=self._shared.clock.now(),
            query=query,
            terms=terms,
            currency=currency,
            least=Decimal(least.amount) if least.amount else None,
            most=Decimal(most.amount) if most.amount else None,
            in_stock=request.in_stock,
            by_price="price" in ways,
        )
        if not request.category_id:
            return wanted
        below = await tree.below(self._db, UUID(request.category_id))
        if not below:
            raise UnknownCategory(category_id=request.category_id)
        return replace(wanted, category_ids=below)

    async def _products(self, rows: Sequence[Any], wanted: Wanted) -> list[pb.FoundProduct]:
        ids = [row["product_id"] for row in rows]
        payloads = await products.documents(self._db, ids)
        there = await stock.in_stock(self._db, ids)
        prices = await search.prices(self._db, wanted.currency, wanted.at, ids) if wanted.currency else {}
        found = []
        for row in rows:
            if row["product_id"] not in payloads:  # It was deleted meanwhile.
                continue
            each = pb.FoundProduct(
                product=Product.FromString(payloads[row["product_id"]]), in_stock=row["product_id"] in there
            )
            if row["product_id"] in prices:
                amount = f"{prices[row['product_id']].normalize():f}"
                each.price_from.CopyFrom(UnitPrice(amount=amount, currency=wanted.currency))
            found.append(each)
        return found

    async def _facets(self, wanted: Wanted, facets: Sequence[str]) -> list[pb.Facet]:
        """One count for all facets that are not filtered by, and one for each of the others."""
        counts: dict[str, list[pb.FacetValue]] = {facet: [] for facet in facets}
        free = [facet for facet in facets if facet not in wanted.terms and facet != IN_STOCK]
        for without in [*([""] if free else []), *(facet for facet in facets if facet in wanted.terms)]:
            of_it = [without] if without else free
            for row in await search.count_terms(self._db, wanted, of_it, without):
                facet, _, value = row["term"].partition("=")
                if len(counts[facet]) < search.FACET_VALUES_MAX:
                    counts[facet].append(pb.FacetValue(value=value, products=row["products"]))
        if IN_STOCK in counts:
            for row in await search.count_in_stock(self._db, wanted):
                value = "true" if row["in_stock"] else "false"
                counts[IN_STOCK].append(pb.FacetValue(value=value, products=row["products"]))
        return [pb.Facet(facet=facet, values=values) for facet, values in counts.items() if values]
