"""Products and variants, read."""

from collections.abc import Iterable
from uuid import UUID

from services.catalog import folding, reading
from services.catalog.domain.lifecycle import State
from services.catalog.domain.refusals import UnknownProduct, UnknownSlug
from services.catalog.service.shared import Shared, reads_all
from services.catalog.store import products, stock, tree
from services.chassis.loader import Loader
from services.chassis.method import Call
from weft.catalog.v1 import product_messages_pb2 as pb, product_pb2 as get


class Reads:
    """The part of ProductService that changes nothing."""

    def __init__(self, shared: Shared) -> None:
        self._shared, self._by_id = shared, Loader(shared.db, products.PAYLOADS, "product_id")

    async def GetProduct(self, request: get.GetProductRequest, call: Call) -> get.GetProductResponse:
        row = await self._by_id.load(UUID(request.product_id))
        product = pb.Product.FromString(row["payload"]) if row else None
        if product is None or not _visible(product, call):
            raise UnknownProduct(product_id=request.product_id)
        return get.GetProductResponse(product=product)

    async def GetProductBySlug(
        self, request: get.GetProductBySlugRequest, call: Call
    ) -> get.GetProductBySlugResponse:
        payload = await products.by_slug(self._shared.db, request.slug)
        product = pb.Product.FromString(payload) if payload is not None else None
        if product is None or not _visible(product, call):
            raise UnknownSlug(slug=request.slug)
        return get.GetProductBySlugResponse(product=product)

    async def ListProducts(self, request: pb.ListProductsRequest, call: Call) -> pb.ListProductsResponse:
        page = products.LISTING.page(request, self._shared.page_key)
        rows, token = page.cut(await products.listed(self._shared.db, page))
        found = [pb.Product.FromString(row["payload"]) for row in rows]
        return pb.ListProductsResponse(products=found, next_page_token=token)

    async def BatchGetVariants(
        self, request: pb.BatchGetVariantsRequest, call: Call
    ) -> pb.BatchGetVariantsResponse:
        skus, db = list(dict.fromkeys(request.skus)), self._shared.db
        found = [pb.Product.FromString(payload) for payload in await products.by_skus(db, skus)]
        seen = [product for product in found if _visible(product, call)]
        categories = {UUID(each) for product in seen for each in product.content.category_ids}
        named = await tree.ancestors(db, categories) if categories else {}
        available = await stock.available(db, skus)
        variants: dict[str, pb.Variant] = {}
        for product in seen:
            above = _with_ancestors(product, named)
            for variant in product.variants:
                sku = variant.content.sku
                variants[sku] = standing_alone(product, variant, above, available.get(sku))
        return pb.BatchGetVariantsResponse(variants=[variants[sku] for sku in skus if sku in variants])


def _visible(product: pb.Product, call: Call) -> bool:
    return folding.state_of(product) is not State.DRAFT or reads_all(call)


def _with_ancestors(product: pb.Product, named: dict[UUID, tree.Named]) -> list[str]:
    """The product's categories, each before those above it."""
    ids: dict[str, None] = {}
    for category_id in map(UUID, product.content.category_ids):
        above: Iterable[UUID] = named[category_id].ancestor_ids if category_id in named else ()
        ids |= dict.fromkeys(map(str, (category_id, *reversed(tuple(above)))))
    return list(ids)


def standing_alone(
    product: pb.Product, variant: pb.ProductVariant, category_ids: Iterable[str], available: int | None
) -> pb.Variant:
    """A variant with what it has from its product."""
    content, own = product.content, variant.content
    return pb.Variant(
        sku=own.sku,
        product_id=product.product_id,
        product_version=product.version,
        title=", ".join(filter(None, (content.title, own.title))),
        state=product.state,
        tax_category=reading.tax_category(product, own.tax_category),
        category_ids=category_ids,
        prices=variant.prices,
        weight_g=own.weight_g if own.HasField("weight_g") else None,
        attributes=[*content.attributes, *own.attributes],
        shippable=own.shippable,
        available=available,
    )
