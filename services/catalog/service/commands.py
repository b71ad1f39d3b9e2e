"""Products, changed."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from services.catalog import deciding, folding
from services.catalog.deciding import Draft, canonical
from services.catalog.domain.lifecycle import State
from services.catalog.domain.refusals import ProductGone, ProductIdReused, UnknownProduct, UnknownVariant
from services.catalog.service.shared import Shared
from services.catalog.store import claims
from services.catalog.writing import Decision, take_slugs
from services.chassis.db import AnyTx, fetch
from services.chassis.masks import apply_mask
from services.chassis.method import Call
from weft.catalog.v1 import product_messages_pb2 as pb
from weft.catalog.v1.content_pb2 import ProductContent
from weft.catalog.v1.events_pb2 import ProductCreated

FIRST = "select payload from event where stream = $1 and key = $2 and version = 1"
FIELDS = tuple(field.name for field in ProductContent.DESCRIPTOR.fields)


class Commands:
    """The part of ProductService that changes one product."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    async def CreateProduct(self, request: pb.CreateProductRequest, call: Call) -> pb.CreateProductResponse:
        product_id, digest, writing = (
            UUID(request.product_id),
            deciding.digest_of(request),
            self._shared.writing,
        )
        content = canonical(request.content)
        async with writing.db.fast() as tx:
            draft = await writing.draft(tx, product_id, content)
            if draft.state is State.GONE:
                raise ProductGone(product_id=product_id)
            if draft.state is State.NONE:
                await create(tx, draft, content, request.variants, digest)
                draft.check()
                await writing.write_one(tx, draft)
            elif await _first_digest(tx, product_id) != digest:
                raise ProductIdReused(product_id=product_id)
        return pb.CreateProductResponse(product=draft.product)

    async def UpdateProduct(self, request: pb.UpdateProductRequest, call: Call) -> pb.UpdateProductResponse:
        wanted = canonical(request.content)

        def decide(draft: Draft) -> None:
            content = ProductContent()
            content.CopyFrom(draft.product.content)
            apply_mask(content, wanted, request.update_mask, FIELDS)
            deciding.update(draft, content)

        product = await self._change(request, decide, wanted)
        return pb.UpdateProductResponse(product=product)

    async def PublishProduct(
        self, request: pb.PublishProductRequest, call: Call
    ) -> pb.PublishProductResponse:
        product = await self._change(request, lambda draft: deciding.become(draft, State.ACTIVE))
        return pb.PublishProductResponse(product=product)

    async def ArchiveProduct(
        self, request: pb.ArchiveProductRequest, call: Call
    ) -> pb.ArchiveProductResponse:
        product = await self._change(request, lambda draft: deciding.become(draft, State.ARCHIVED))
        return pb.ArchiveProductResponse(product=product)

    async def DeleteProduct(self, request: pb.DeleteProductRequest, call: Call) -> pb.DeleteProductResponse:
        await self._change(request, lambda draft: deciding.become(draft, State.GONE))
        return pb.DeleteProductResponse()

    async def AddVariant(self, request: pb.AddVariantRequest, call: Call) -> pb.AddVariantResponse:
        product = await self._change(request, lambda draft: deciding.add_variant(draft, request.variant))
        return pb.AddVariantResponse(product=product)

    async def UpdateVariant(self, request: pb.UpdateVariantRequest, call: Call) -> pb.UpdateVariantResponse:
        product = await self._change(request, lambda draft: deciding.update_variant(draft, request.variant))
        return pb.UpdateVariantResponse(product=product)

    async def RemoveVariant(self, request: pb.RemoveVariantRequest, call: Call) -> pb.RemoveVariantResponse:
        product = await self._change(request, lambda draft: deciding.remove_variant(draft, request.sku))
        return pb.RemoveVariantResponse(product=product)

    async def SetPrice(self, request: pb.SetPriceRequest, call: Call) -> pb.SetPriceResponse:
        sku = request.sku
        product = await self._change_of(
            request, sku, lambda draft: deciding.set_price(draft, sku, request.price)
        )
        return pb.SetPriceResponse(product=product)

    async def RemovePrice(self, request: pb.RemovePriceRequest, call: Call) -> pb.RemovePriceResponse:
        sku, currency = request.sku, request.currency
        product = await self._change_of(
            request, sku, lambda draft: deciding.remove_price(draft, sku, currency, request)
        )
        return pb.RemovePriceResponse(product=product)

    async def _change(
        self, request: Any, decide: Decision, naming: ProductContent | None = None
    ) -> pb.Product:
        """`request` has the product's id and the version that is expected."""
        writing, product_id = self._shared.writing, UUID(request.product_id)
        return await writing.change(product_id, request.expected_version, decide, naming)

    async def _change_of(self, request: Any, sku: str, decide: Decision) -> pb.Product:
        """The product that has the variant. Raises UnknownVariant."""
        owners = await claims.owners_of_skus(self._shared.db, [sku])
        if sku not in owners:
            raise UnknownVariant(sku=sku)
        try:
            return await self._shared.writing.change(owners[sku], request.expected_version, decide)
        except UnknownProduct:
            raise UnknownVariant(sku=sku) from None


async def create(
    tx: AnyTx, draft: Draft, content: ProductContent, variants: Sequence[pb.NewVariant], digest: bytes
) -> None:
    """Decides upon a new product; `content` gets a slug from its title if it has none."""
    if not content.slug:
        content.slug = (await take_slugs(tx, {draft.product_id: content.title}))[draft.product_id]
    deciding.create(draft, content, digest)
    deciding.add_new(draft, variants)


async def _first_digest(tx: AnyTx, product_id: UUID) -> bytes:
    rows = await fetch(tx, FIRST, folding.PRODUCT, str(product_id))
    return ProductCreated.FromString(rows[0]["payload"]).request_sha256
