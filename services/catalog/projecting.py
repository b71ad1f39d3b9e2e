"""What is read, made from the events in the transaction that writes them, and again by a rebuild."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from services.catalog import folding, reading
from services.catalog.domain import prices
from services.catalog.store import products, tree
from services.chassis.events import Envelope
from services.chassis.projections import Projection
from weft.catalog.v1 import events_pb2 as events
from weft.catalog.v1.product_messages_pb2 import Product

Happened = Sequence[tuple[Any, Envelope]]


async def project_products(happened: Happened, tx: Any) -> None:
    """Folds each product on from its row. Positions say the same as versions: one writer at a time."""
    ids = [UUID(event.product_id) for event, _ in happened]
    kept = await products.payloads(tx, list(dict.fromkeys(ids)))
    folded: dict[UUID, Product] = {}
    for product_id, (event, envelope) in zip(ids, happened, strict=True):
        if product_id not in folded:
            folded[product_id] = Product.FromString(kept.get(product_id, b""))
        folding.fold_product(folded[product_id], event, envelope)
    there = {product_id: product for product_id, product in folded.items() if product.state}
    found: set[str] = set()
    reads = [_read(product_id, product, found) for product_id, product in there.items()]
    await products.put(tx, reads, [product_id for product_id in folded if product_id not in there])
    await products.put_words(tx, found)
    if _priced(happened):
        spans = [span for product_id, product in there.items() for span in _steps(product_id, product)]
        await products.put_steps(tx, list(folded), spans)


def _priced(happened: Happened) -> bool:
    """Whether a price may be another after it."""
    changing = (events.PriceChanged, events.PriceRemoved, events.VariantRemoved, events.ProductDeleted)
    return any(isinstance(event, changing) for event, _ in happened)


def _read(product_id: UUID, product: Product, found: set[str]) -> products.Read:
    """The product's row; adds its words to `found`."""
    content = product.content
    vector, vocabulary = reading.search_words(product)
    found |= vocabulary
    return products.Read(
        product_id=product_id,
        version=product.version,
        state=folding.state_of(product),
        slug=content.slug,
        title=content.title,
        brand=content.brand,
        product_type_id=UUID(content.product_type_id) if content.product_type_id else None,
        category_ids=products.as_json(list(content.category_ids)),
        skus=products.as_json([variant.content.sku for variant in product.variants]),
        terms=products.as_json(reading.terms(product)),
        words=vector,
        payload=product.SerializeToString(deterministic=True),
        create_time=reading.moment(product.create_time),
        update_time=reading.moment(product.update_time),
    )


def _steps(product_id: UUID, product: Product) -> list[products.Step]:
    return [
        (product_id, currency, span.begin, span.end, span.amount)
        for currency, variants in sorted(reading.by_currency(product).items())
        for span in prices.steps(variants)
    ]


async def project_category(event: Any, envelope: Envelope, tx: Any) -> None:
    category_id = UUID(event.category_id)
    if isinstance(event, events.CategoryDeleted):
        await tree.remove_category(tx, category_id)
        return
    if isinstance(event, events.CategoryMoved):
        parent = _maybe(event.to_parent_id)
        await tree.move_category(tx, category_id, parent, event.version, envelope.at)
        return
    content = event.content
    read = tree.CategoryRead(
        category_id=category_id,
        version=event.version,
        parent_id=_maybe(event.parent_id) if isinstance(event, events.CategoryCreated) else None,
        position=content.position,
        name=content.name,
        product_type_id=_maybe(content.product_type_id),
        payload=content.SerializeToString(deterministic=True),
        at=envelope.at,
    )
    await tree.put_category(tx, read)


async def project_type(event: Any, envelope: Envelope, tx: Any) -> None:
    type_id = UUID(event.product_type_id)
    if isinstance(event, events.ProductTypeDeleted):
        await tree.remove_type(tx, type_id)
        return
    payload = event.content.SerializeToString(deterministic=True)
    await tree.put_type(tx, type_id, event.version, event.content.name, payload, envelope.at)


def _maybe(text: str) -> UUID | None:
    return UUID(text) if text else None


PRODUCTS = Projection("products", products.TABLES, types=folding.PRODUCT_EVENTS, many=project_products)
CATEGORIES = Projection("categories", tree.CATEGORY_TABLES, project_category, folding.CATEGORY_EVENTS)
TYPES = Projection("product_types", tree.TYPE_TABLES, project_type, folding.TYPE_EVENTS)
