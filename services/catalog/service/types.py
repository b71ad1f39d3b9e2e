"""weft.catalog.v1.ProductTypeService."""

from typing import Any
from uuid import UUID

from services.catalog import folding, projecting, reading
from services.catalog.domain.attributes import check_definitions
from services.catalog.domain.refusals import ProductTypeIdReused, ProductTypeInUse, UnknownProductType
from services.catalog.service.shared import Shared
from services.catalog.store import products, tree
from services.chassis import event_store
from services.chassis.db import AnyTx
from services.chassis.event_store import VersionConflict
from services.chassis.loader import Loader
from services.chassis.method import Call
from weft.catalog.v1 import events_pb2 as events, product_type_pb2 as pb
from weft.catalog.v1.definition_pb2 import ProductTypeContent
from weft.catalog.v1.product_type_pb2_grpc import ProductTypeServiceServicer

ONE = "select * from product_type where product_type_id = any($1::uuid[])"


class ProductTypes(ProductTypeServiceServicer):
    def __init__(self, shared: Shared) -> None:
        self._shared, self._db = shared, shared.db
        self._by_id = Loader(shared.db, ONE, "product_type_id")

    async def CreateProductType(
        self, request: pb.CreateProductTypeRequest, call: Call
    ) -> pb.CreateProductTypeResponse:
        type_id = str(UUID(request.product_type_id))
        check_definitions(reading.definitions(request.content))
        async with self._db.fast() as tx:
            await tree.lock(tx)
            known = await _load(tx, type_id)
            if not known.version:
                new = events.ProductTypeCreated(product_type_id=type_id, version=1, content=request.content)
                await _append(tx, known, new)
            elif known.content != request.content:
                raise ProductTypeIdReused(product_type_id=type_id)
        return pb.CreateProductTypeResponse(product_type=await self._read(type_id))

    async def GetProductType(
        self, request: pb.GetProductTypeRequest, call: Call
    ) -> pb.GetProductTypeResponse:
        return pb.GetProductTypeResponse(product_type=await self._read(request.product_type_id))

    async def ListProductTypes(
        self, request: pb.ListProductTypesRequest, call: Call
    ) -> pb.ListProductTypesResponse:
        page = tree.TYPE_LISTING.page(request, self._shared.page_key)
        rows, token = page.cut(await tree.listed_types(self._db, page))
        return pb.ListProductTypesResponse(product_types=map(to_pb, rows), next_page_token=token)

    async def UpdateProductType(
        self, request: pb.UpdateProductTypeRequest, call: Call
    ) -> pb.UpdateProductTypeResponse:
        type_id = str(UUID(request.product_type_id))
        async with self._db.fast() as tx:
            await tree.lock(tx)
            known = await _existing(tx, type_id)
            check_definitions(reading.definitions(request.content), reading.definitions(known.content))
            if known.content != request.content:
                _expect(known, request.expected_version)
                version = known.version + 1
                new = events.ProductTypeUpdated(
                    product_type_id=type_id, version=version, content=request.content
                )
                await _append(tx, known, new)
        return pb.UpdateProductTypeResponse(product_type=await self._read(type_id))

    async def DeleteProductType(
        self, request: pb.DeleteProductTypeRequest, call: Call
    ) -> pb.DeleteProductTypeResponse:
        type_id = UUID(request.product_type_id)
        async with self._db.fast() as tx:
            await tree.lock(tx)
            known = await _existing(tx, str(type_id))
            _expect(known, request.expected_version)
            if await products.uses_type(tx, type_id):
                raise ProductTypeInUse(product_type_id=type_id, what="products")
            if await tree.uses_type(tx, type_id):
                raise ProductTypeInUse(product_type_id=type_id, what="categories")
            version = known.version + 1
            await _append(tx, known, events.ProductTypeDeleted(product_type_id=str(type_id), version=version))
        return pb.DeleteProductTypeResponse()

    async def _read(self, type_id: str) -> pb.ProductType:
        """Raises UnknownProductType."""
        row = await self._by_id.load(UUID(type_id))
        if row is None:
            raise UnknownProductType(product_type_id=type_id)
        return to_pb(row)


async def _load(tx: AnyTx, type_id: str) -> pb.ProductType:
    """As its events have it; version 0 when it never was."""
    fold, kept = folding.fold_type, folding.TYPE_SNAPSHOTS
    state, _ = await event_store.load(tx, folding.PRODUCT_TYPE, type_id, fold, pb.ProductType(), kept)
    return state


async def _existing(tx: AnyTx, type_id: str) -> pb.ProductType:
    """Raises UnknownProductType, also of one that was deleted."""
    known = await _load(tx, type_id)
    if not known.content.name:
        raise UnknownProductType(product_type_id=type_id)
    return known


def _expect(known: pb.ProductType, expected: int) -> None:
    if expected not in (0, known.version):
        key, version = known.product_type_id, known.version
        raise VersionConflict(kind=folding.PRODUCT_TYPE, key=key, version=version, expected=expected)


async def _append(tx: AnyTx, known: pb.ProductType, new: Any) -> None:
    changes = {new.product_type_id: (known.version, [new])}
    (envelope,) = await event_store.append_all(tx, folding.PRODUCT_TYPE, changes)
    await projecting.TYPES.apply(new, envelope, tx)


def to_pb(row: Any) -> pb.ProductType:
    return pb.ProductType(
        product_type_id=str(row["product_type_id"]),
        version=row["version"],
        content=ProductTypeContent.FromString(row["payload"]),
        create_time=reading.stamp(row["create_time"]),
        update_time=reading.stamp(row["update_time"]),
    )
