"""What is read is the fold of the events: rebuilt it is the same, and events of the first day are read."""

import asyncio
import os
import random
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from google.protobuf.json_format import MessageToJson

from services.catalog import folding, projecting
from services.chassis import event_store
from services.chassis.event_store import Snapshots
from services.chassis.events import Envelope
from services.chassis.projections import Projection, rebuild
from tests.catalog.shop import Shop, list_price, new_id, new_sku, refused, variant
from weft.catalog.v1 import events_pb2, read_model_pb2
from weft.catalog.v1.content_pb2 import Attribute, ProductContent, VariantContent
from weft.catalog.v1.definition_pb2 import AttributeDefinition, CategoryContent, ProductTypeContent
from weft.catalog.v1.product_messages_pb2 import (
    ArchiveProductRequest,
    DeleteProductRequest,
    Product,
    RemoveVariantRequest,
)
from weft.catalog.v1.read_model_pb2_grpc import ReadModelServiceStub
from weft.money.v1.money_pb2 import UnitPrice

GOLDEN = Path(__file__).parent / "golden"
PROJECTIONS = (projecting.PRODUCTS, projecting.CATEGORIES, projecting.TYPES)


async def live(shop: Shop, projection: Projection) -> dict[str, list[tuple[Any, ...]]]:
    """All that the projection's tables hold, byte for byte."""
    db = shop.lab.db("catalog")
    content = {}
    for table in projection.tables:
        rows = await db.fetch(f"select t::text as whole from {table} as t order by 1")
        content[table] = [tuple(row) for row in rows]
    return content


async def anew(shop: Shop, projection: Projection) -> None:
    """As an operator makes it."""
    models = ReadModelServiceStub(shop.lab.channel)
    request = read_model_pb2.RebuildReadModelRequest(model=PROJECTIONS.index(projection) + 1)  # type: ignore[arg-type]
    answer = await models.RebuildReadModel(request, metadata=shop.staff)
    last = await shop.lab.db("catalog").fetchval("select max(position) from event")
    assert answer.position == last


async def lived_through(shop: Shop, seed: int) -> None:
    """Some of all that can happen to a few products and categories."""
    chance = random.Random(seed)
    categories = [await shop.category(f"C{n}") for n in range(4)]
    for n in range(6):
        parent, child = chance.sample(categories, 2)
        if n % 2:
            await _tried(shop.move(child.category_id, parent.category_id))
        sku = new_sku()
        made = await shop.create(
            variant(sku, list_price(str(n))), variant(), title=f"Thing {n}", category_ids=[parent.category_id]
        )
        await shop.update(made, title=f"Other thing {n}", description="Made of wood")
        await shop.set_price(sku, list_price(str(n + 1), "USD"))
        gone = RemoveVariantRequest(product_id=made.product_id, sku=sku)
        if chance.random() < 0.5:
            await shop.products.RemoveVariant(gone, metadata=shop.staff)
        if chance.random() < 0.5:
            await shop.publish(made)
            if chance.random() < 0.5:
                archive = ArchiveProductRequest(product_id=made.product_id)
                await shop.products.ArchiveProduct(archive, metadata=shop.staff)
        elif chance.random() < 0.5:
            delete = DeleteProductRequest(product_id=made.product_id)
            await shop.products.DeleteProduct(delete, metadata=shop.staff)


async def _tried(call: Any) -> None:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        assert error.code() in (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.ABORTED)  # noqa: PT017


async def _took(call: Any) -> bool:
    """Whether it did not have to give way to the swap."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        assert error.code() is grpc.StatusCode.ABORTED  # noqa: PT017
        return False
    return True


async def test_what_is_read_is_the_same_when_it_is_made_anew(empty_shop: Shop) -> None:
    shop, db = empty_shop, empty_shop.lab.db("catalog")
    definition = AttributeDefinition(key="colour", kind=AttributeDefinition.KIND_TEXT)
    type_ = await shop.product_type(definition)
    colour = [Attribute(key="colour", text="red")]
    await shop.on_sale(product_type_id=type_.product_type_id, attributes=colour)
    await lived_through(shop, seed=1)
    for projection in PROJECTIONS:
        before = await live(shop, projection)
        assert all(before.values())
        for table in projection.tables:
            await db.execute(f"delete from {table}")
        await anew(shop, projection)
        assert await live(shop, projection) == before


async def test_only_who_may_makes_what_is_read_anew(shop: Shop) -> None:
    request = read_model_pb2.RebuildReadModelRequest(model=1)
    async with refused("NOT_PERMITTED"):
        staff = shop.lab.bearer(scope="catalog.products.write")
        await ReadModelServiceStub(shop.lab.channel).RebuildReadModel(request, metadata=staff)


async def test_products_change_while_they_are_made_anew(empty_shop: Shop) -> None:
    shop, db = empty_shop, empty_shop.lab.db("catalog")
    skus, done = [new_sku() for _ in range(4)], asyncio.Event()
    category = await shop.category()
    for sku in skus:
        await shop.create(variant(sku), category_ids=[category.category_id])

    async def change(sku: str) -> int:
        changes = 0
        while not done.is_set():
            changes += await _took(shop.set_price(sku, list_price(str(changes))))
            changes += await _took(shop.create(title=f"Thing {changes}"))
        return changes

    changing = [asyncio.create_task(change(sku)) for sku in skus]
    for projection in PROJECTIONS:
        await rebuild(db, projection)
    done.set()
    assert min(await asyncio.gather(*changing)) > 0
    for projection in PROJECTIONS[:2]:
        before = await live(shop, projection)
        await rebuild(db, projection)
        assert await live(shop, projection) == before


async def test_a_product_of_many_changes_is_loaded_from_its_snapshot(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Snapshots(folding.PRODUCT_SNAPSHOTS.dump, folding.PRODUCT_SNAPSHOTS.load, every=5)
    monkeypatch.setattr(folding, "PRODUCT_SNAPSHOTS", kept)
    sku = new_sku()
    made = await shop.create(variant(sku))
    for n in range(12):
        last = await shop.set_price(sku, list_price(str(n)))
    db = shop.lab.db("catalog")
    key = made.product_id
    assert await db.fetchval("select version from snapshot where key = $1", key) == 10
    for snapshots in (None, kept):
        whole = await event_store.load(db, folding.PRODUCT, key, folding.fold_product, Product(), snapshots)
        assert whole == (last, 14)


SAMPLES: dict[str, Any] = {
    "product_created": events_pb2.ProductCreated(
        product_id="0198c1f2-0000-7000-8000-000000000001",
        version=1,
        content=ProductContent(
            title="Socks",
            description="Warm",
            brand="Acme",
            slug="socks",
            product_type_id="0198c1f2-0000-7000-8000-000000000002",
            category_ids=["0198c1f2-0000-7000-8000-000000000003"],
            attributes=[
                Attribute(key="material", text="wool"),
                Attribute(key="length", number={"amount": "12.5", "unit": "cm"}),
                Attribute(key="organic", boolean=True),
                Attribute(key="season", choice="winter"),
                Attribute(key="box", dimensions={"length": "1", "width": "2", "height": "3", "unit": "cm"}),
                Attribute(key="made", date="2026-01-31"),
            ],
            media=[{"url": "https://example.com/a.png", "kind": 1, "alt": "A sock", "sku": "SOCK-1"}],
            tax_category=2,
        ),
        request_sha256=b"\1" * 32,
    ),
    "product_updated": events_pb2.ProductUpdated(
        product_id="p", version=2, content=ProductContent(title="New"), paths=["title"]
    ),
    "product_published": events_pb2.ProductPublished(product_id="p", version=3),
    "product_archived": events_pb2.ProductArchived(product_id="p", version=4),
    "product_deleted": events_pb2.ProductDeleted(product_id="p", version=5, skus=["SOCK-1"]),
    "variant_added": events_pb2.VariantAdded(
        product_id="p",
        version=6,
        variant=VariantContent(
            sku="SOCK-1", title="Red", tax_category=4, weight_g=0, shippable=True, gtin="4006381333931"
        ),
    ),
    "variant_updated": events_pb2.VariantUpdated(
        product_id="p", version=7, variant=VariantContent(sku="SOCK-1", title="Blue")
    ),
    "variant_removed": events_pb2.VariantRemoved(product_id="p", version=8, sku="SOCK-1"),
    "price_changed": events_pb2.PriceChanged(
        product_id="p",
        version=9,
        sku="SOCK-1",
        price=UnitPrice(amount="4.5", currency="EUR"),
        valid_from={"seconds": 1},
        valid_to={"seconds": 2},
    ),
    "price_removed": events_pb2.PriceRemoved(
        product_id="p", version=10, sku="SOCK-1", currency="EUR", valid_from={"seconds": 1}
    ),
    "category_created": events_pb2.CategoryCreated(
        category_id="c",
        version=1,
        parent_id="d",
        content=CategoryContent(name="Socks", description="All", product_type_id="t", position=3),
    ),
    "category_updated": events_pb2.CategoryUpdated(
        category_id="c", version=2, content=CategoryContent(name="Hosiery")
    ),
    "category_moved": events_pb2.CategoryMoved(
        category_id="c", version=3, from_parent_id="d", to_parent_id="e"
    ),
    "category_deleted": events_pb2.CategoryDeleted(category_id="c", version=4),
    "product_type_created": events_pb2.ProductTypeCreated(
        product_type_id="t",
        version=1,
        content=ProductTypeContent(
            name="Clothes",
            attributes=[
                AttributeDefinition(
                    key="length",
                    label="Length",
                    kind=AttributeDefinition.KIND_NUMBER,
                    level=AttributeDefinition.LEVEL_VARIANT,
                    required=True,
                    unit="cm",
                    number_min="1",
                    number_max="2",
                ),
                AttributeDefinition(key="size", kind=AttributeDefinition.KIND_CHOICE, choices=["S", "M"]),
            ],
        ),
    ),
    "product_type_updated": events_pb2.ProductTypeUpdated(
        product_type_id="t", version=2, content=ProductTypeContent(name="Garments")
    ),
    "product_type_deleted": events_pb2.ProductTypeDeleted(product_type_id="t", version=3),
}


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_an_event_of_the_first_schema_is_read_as_it_was_meant(name: str) -> None:
    """The files are never written again: when a schema changes, an upcaster makes the new meaning of them."""
    wanted, file = SAMPLES[name], GOLDEN / f"{name}_1.hex"
    if os.environ.get("WEFT_GOLDEN") == "write" and not file.exists():
        file.write_text(wanted.SerializeToString(deterministic=True).hex() + "\n")
    old = Envelope(
        id=new_id(),  # type: ignore[arg-type]
        type=wanted.DESCRIPTOR.full_name,
        key="k",
        subject="",
        actor="system",
        acting="",
        trace="",
        causation=None,
        at=None,  # type: ignore[arg-type]
        version=1,
        schema_version=1,
        payload=bytes.fromhex(file.read_text()),
        position=1,
    )
    assert MessageToJson(event_store.decode(old)) == MessageToJson(wanted)


def test_every_event_of_the_catalog_has_its_golden_file() -> None:
    kinds = events_pb2.DESCRIPTOR.message_types_by_name
    assert sorted(kinds) == sorted(type(sample).DESCRIPTOR.name for sample in SAMPLES.values())
    projected = {kind.DESCRIPTOR.name for projection in PROJECTIONS for kind in projection.types}
    assert projected == set(kinds)
