"""A catalog as its callers use it, and the things that tests put into it."""

import secrets
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import grpc.aio
import pytest
from google.api.httpbody_pb2 import HttpBody

from services.chassis.testing import Lab, reason
from weft.catalog.v1 import (
    category_pb2,
    product_messages_pb2 as pb,
    product_pb2,
    product_type_pb2,
    transfer_pb2,
)
from weft.catalog.v1.category_pb2_grpc import CategoryServiceStub
from weft.catalog.v1.content_pb2 import ListPrice, ProductContent, VariantContent
from weft.catalog.v1.definition_pb2 import AttributeDefinition, CategoryContent, ProductTypeContent
from weft.catalog.v1.product_pb2_grpc import ProductServiceStub
from weft.catalog.v1.product_type_pb2_grpc import ProductTypeServiceStub
from weft.money.v1.money_pb2 import UnitPrice

Metadata = tuple[tuple[str, str], ...]


def new_id() -> str:
    return str(uuid4())


def new_sku() -> str:
    return f"SKU-{secrets.token_hex(6)}"


def list_price(amount: str, currency: str = "EUR", **dated: Any) -> ListPrice:
    return ListPrice(price=UnitPrice(amount=amount, currency=currency), **dated)


def variant(sku: str = "", *prices: ListPrice, **content: Any) -> pb.NewVariant:
    made = VariantContent(sku=sku or new_sku(), shippable=True, **content)
    return pb.NewVariant(content=made, prices=prices)


@asynccontextmanager
async def refused(why: str) -> AsyncIterator[None]:
    """The block's call is refused for this reason."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        yield
    assert reason(caught.value) == why, caught.value.details()


@dataclass
class Shop:
    lab: Lab
    products: ProductServiceStub
    categories: CategoryServiceStub
    types: ProductTypeServiceStub
    staff: Metadata
    anyone: Metadata = ()

    @classmethod
    def of(cls, lab: Lab) -> "Shop":
        channel = lab.channel
        stubs = ProductServiceStub(channel), CategoryServiceStub(channel), ProductTypeServiceStub(channel)
        return cls(lab, *stubs, staff=lab.bearer())

    async def create(
        self, *variants: pb.NewVariant, product_id: str = "", title: str = "Wool socks", **content: Any
    ) -> pb.Product:
        request = pb.CreateProductRequest(
            product_id=product_id or new_id(),
            content=ProductContent(title=title, **content),
            variants=variants,
        )
        return (await self.products.CreateProduct(request, metadata=self.staff)).product

    async def publish(self, product: pb.Product) -> pb.Product:
        request = pb.PublishProductRequest(product_id=product.product_id)
        return (await self.products.PublishProduct(request, metadata=self.staff)).product

    async def on_sale(self, *variants: pb.NewVariant, **content: Any) -> pb.Product:
        return await self.publish(await self.create(*(variants or (variant(),)), **content))

    async def get(self, product_id: str, metadata: Metadata | None = None) -> pb.Product:
        request = product_pb2.GetProductRequest(product_id=product_id)
        chosen = self.staff if metadata is None else metadata
        return (await self.products.GetProduct(request, metadata=chosen)).product

    async def update(self, product: pb.Product, expected: int = 0, **content: Any) -> pb.Product:
        request = pb.UpdateProductRequest(
            product_id=product.product_id, expected_version=expected, content=ProductContent(**content)
        )
        return (await self.products.UpdateProduct(request, metadata=self.staff)).product

    async def set_price(self, sku: str, price: ListPrice, expected: int = 0) -> pb.Product:
        request = pb.SetPriceRequest(sku=sku, price=price, expected_version=expected)
        return (await self.products.SetPrice(request, metadata=self.staff)).product

    async def variants(self, *skus: str, metadata: Metadata | None = None) -> Sequence[pb.Variant]:
        chosen = self.lab.as_service() if metadata is None else metadata
        request = pb.BatchGetVariantsRequest(skus=skus)
        return (await self.products.BatchGetVariants(request, metadata=chosen)).variants

    async def category(self, name: str = "Socks", parent: str = "", **content: Any) -> category_pb2.Category:
        request = category_pb2.CreateCategoryRequest(
            category_id=new_id(), parent_id=parent, content=CategoryContent(name=name, **content)
        )
        return (await self.categories.CreateCategory(request, metadata=self.staff)).category

    async def move(self, category_id: str, parent: str, expected: int = 0) -> category_pb2.Category:
        request = category_pb2.MoveCategoryRequest(
            category_id=category_id, parent_id=parent, expected_version=expected
        )
        return (await self.categories.MoveCategory(request, metadata=self.staff)).category

    async def product_type(self, *attributes: AttributeDefinition) -> product_type_pb2.ProductType:
        content = ProductTypeContent(name="A type", attributes=attributes)
        request = product_type_pb2.CreateProductTypeRequest(product_type_id=new_id(), content=content)
        return (await self.types.CreateProductType(request, metadata=self.staff)).product_type

    async def take_in(
        self,
        rows: Iterable[transfer_pb2.ProductRow],
        import_id: str = "",
        first_row: int = 0,
        each: int = 100,
    ) -> transfer_pb2.ImportReport:
        async def requests() -> AsyncIterator[transfer_pb2.ImportProductsRequest]:
            kept = list(rows)
            for n in range(0, len(kept), each) or [0]:
                yield transfer_pb2.ImportProductsRequest(
                    import_id=import_id, first_row=first_row, rows=kept[n : n + each]
                )

        return (await self.products.ImportProducts(requests(), metadata=self.staff)).report

    async def take_csv(
        self, data: bytes, import_id: str = "", each: int = 1000, **form: Any
    ) -> transfer_pb2.ImportReport:
        async def requests() -> AsyncIterator[transfer_pb2.ImportCsvRequest]:
            for n in range(0, len(data), each) or [0]:
                yield transfer_pb2.ImportCsvRequest(
                    import_id=import_id,
                    format=transfer_pb2.CsvFormat(**form),
                    file=HttpBody(data=data[n : n + each]),
                )

        return (await self.products.ImportCsv(requests(), metadata=self.staff)).report
