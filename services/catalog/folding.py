"""What a product, a category and a product type are after their events."""

from datetime import datetime
from typing import Any, TypeVar

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from services.catalog.domain.lifecycle import State
from services.chassis.event_store import Snapshots
from services.chassis.events import Envelope
from weft.catalog.v1 import events_pb2 as events
from weft.catalog.v1.category_pb2 import Category
from weft.catalog.v1.content_pb2 import ListPrice
from weft.catalog.v1.product_messages_pb2 import Product, ProductState, ProductVariant
from weft.catalog.v1.product_type_pb2 import ProductType

M = TypeVar("M", bound=Message)

PRODUCT, CATEGORY, PRODUCT_TYPE = "product", "category", "product_type"  # Kinds of aggregates.
PRODUCT_EVENTS = (
    events.ProductCreated,
    events.ProductUpdated,
    events.ProductPublished,
    events.ProductArchived,
    events.ProductDeleted,
    events.VariantAdded,
    events.VariantUpdated,
    events.VariantRemoved,
    events.PriceChanged,
    events.PriceRemoved,
)
CATEGORY_EVENTS = (
    events.CategoryCreated,
    events.CategoryUpdated,
    events.CategoryMoved,
    events.CategoryDeleted,
)
TYPE_EVENTS = (events.ProductTypeCreated, events.ProductTypeUpdated, events.ProductTypeDeleted)
STATES = {
    State.DRAFT: ProductState.PRODUCT_STATE_DRAFT,
    State.ACTIVE: ProductState.PRODUCT_STATE_ACTIVE,
    State.ARCHIVED: ProductState.PRODUCT_STATE_ARCHIVED,
}
BY_STATE = {pb: state for state, pb in STATES.items()}


def state_of(product: Product) -> State:
    """NONE before it was created, GONE after it was deleted."""
    return BY_STATE.get(product.state, State.GONE if product.version else State.NONE)


def variant_of(product: Product, sku: str) -> ProductVariant | None:
    return next((each for each in product.variants if each.content.sku == sku), None)


def fold_product(product: Product, event: Any, envelope: Envelope) -> Product:
    """`product` itself, changed; what is new is taken over as a copy."""
    return take(product, event, envelope.at)


def take(product: Product, event: Any, at: datetime) -> Product:
    """As `fold_product`, of an event that is no more than decided upon."""
    product.version = event.version
    product.update_time.FromDatetime(at)
    match event:
        case events.ProductCreated():
            product.product_id, product.state = event.product_id, STATES[State.DRAFT]
            product.content.CopyFrom(event.content)
            product.create_time.CopyFrom(product.update_time)
        case events.ProductUpdated():
            product.content.CopyFrom(event.content)
        case events.ProductPublished():
            product.state = STATES[State.ACTIVE]
            if not product.HasField("first_publish_time"):
                product.first_publish_time.CopyFrom(product.update_time)
        case events.ProductArchived():
            product.state = STATES[State.ARCHIVED]
        case events.ProductDeleted():
            _bury(product)
        case _:
            _fold_variant(product, event)
    return product


def _bury(product: Product) -> None:
    """Leaves the id and the version."""
    left = Product(product_id=product.product_id, version=product.version)
    product.CopyFrom(left)


def _fold_variant(product: Product, event: Any) -> None:
    if isinstance(event, events.VariantAdded):
        product.variants.add().content.CopyFrom(event.variant)
        return
    sku = event.variant.sku if isinstance(event, events.VariantUpdated) else event.sku
    variant = variant_of(product, sku)
    assert variant is not None, f"{event.DESCRIPTOR.name} of {sku}, which the product does not have"
    match event:
        case events.VariantUpdated():
            variant.content.CopyFrom(event.variant)
        case events.VariantRemoved():
            product.variants.remove(variant)
        case events.PriceChanged():
            kept = [price for price in variant.prices if price_name(price) != _event_name(event)]
            kept.append(
                ListPrice(
                    price=event.price,
                    valid_from=event.valid_from if event.HasField("valid_from") else None,
                    valid_to=event.valid_to if event.HasField("valid_to") else None,
                )
            )
            _put(variant, kept)
        case events.PriceRemoved():
            gone = (event.currency, since(event))
            _put(variant, [price for price in variant.prices if price_name(price) != gone])


def _put(variant: ProductVariant, prices: list[ListPrice]) -> None:
    ordered = sorted(prices, key=price_name)
    del variant.prices[:]
    variant.prices.extend(ordered)


def since(dated: Any) -> tuple[int, int]:
    """Sorts first what holds since ever."""
    begin: Timestamp = dated.valid_from
    return (begin.seconds, begin.nanos) if dated.HasField("valid_from") else (-(1 << 62), 0)


def price_name(price: ListPrice) -> tuple[str, tuple[int, int]]:
    """What names a list price of a variant."""
    return price.price.currency, since(price)


def _event_name(event: events.PriceChanged) -> tuple[str, tuple[int, int]]:
    return event.price.currency, since(event)


def fold_category(category: Category, event: Any, envelope: Envelope) -> Category:
    """`category` itself, changed. Its ancestors are not of its own events, and not filled in."""
    category.category_id, category.version = event.category_id, event.version
    category.update_time.FromDatetime(envelope.at)
    match event:
        case events.CategoryCreated():
            category.parent_id = event.parent_id
            category.content.CopyFrom(event.content)
            category.create_time.CopyFrom(category.update_time)
        case events.CategoryUpdated():
            category.content.CopyFrom(event.content)
        case events.CategoryMoved():
            category.parent_id = event.to_parent_id
        case events.CategoryDeleted():
            category.CopyFrom(Category(category_id=event.category_id, version=event.version))
    return category


def fold_type(product_type: ProductType, event: Any, envelope: Envelope) -> ProductType:
    """`product_type` itself, changed."""
    product_type.product_type_id, product_type.version = event.product_type_id, event.version
    product_type.update_time.FromDatetime(envelope.at)
    match event:
        case events.ProductTypeCreated():
            product_type.content.CopyFrom(event.content)
            product_type.create_time.CopyFrom(product_type.update_time)
        case events.ProductTypeUpdated():
            product_type.content.CopyFrom(event.content)
        case events.ProductTypeDeleted():
            product_type.CopyFrom(ProductType(product_type_id=event.product_type_id, version=event.version))
    return product_type


def _snapshots(kind: type[M]) -> Snapshots[M]:
    return Snapshots(dump=lambda state: state.SerializeToString(deterministic=True), load=kind.FromString)


PRODUCT_SNAPSHOTS = _snapshots(Product)
CATEGORY_SNAPSHOTS = _snapshots(Category)
TYPE_SNAPSHOTS = _snapshots(ProductType)
