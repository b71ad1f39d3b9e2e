"""What may happen to a product: each decision adds the events that follow, or raises a refusal."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from typing import Any
from uuid import UUID

from services.catalog import folding, reading
from services.catalog.domain import attributes
from services.catalog.domain.attributes import Definition
from services.catalog.domain.lifecycle import State, moves
from services.catalog.domain.prices import PRICES_MAX
from services.catalog.domain.refusals import (
    NotPublishable,
    PriceRefused,
    ProductTooLarge,
    SkuRepeated,
    TooManyPrices,
    TooManyVariants,
    UnknownCategory,
    UnknownPrice,
    UnknownProductType,
    UnknownVariant,
    VariantExists,
)
from services.catalog.store.tree import Named
from services.chassis.money import exponent
from weft.catalog.v1 import events_pb2 as events
from weft.catalog.v1.content_pb2 import ListPrice, ProductContent, VariantContent
from weft.catalog.v1.product_messages_pb2 import (
    CreateProductRequest,
    NewVariant,
    Product,
    ProductVariant,
)

VARIANTS_MAX = 200  # They are in one row with their product, and written together.
CONTENT_BYTES_MAX = 60_000  # What one event can carry, with room for what stands around it.
PRODUCT_BYTES_MAX = 256 * 1024  # A page of 100 such products is what a process can hold for many callers.

# After these a product says other things of itself, or says them to everyone. A price or an end of sale is
# not held up by what a type asks for since.
SAYING = (
    events.ProductCreated,
    events.ProductUpdated,
    events.ProductPublished,
    events.VariantAdded,
    events.VariantUpdated,
)


@dataclass(frozen=True)
class Surroundings:
    """What categories and types say, of all that is named by the products at hand."""

    named: Mapping[UUID, Named] = field(default_factory=dict)
    types: Mapping[UUID, Sequence[Definition]] = field(default_factory=dict)

    def definitions(self, content: ProductContent) -> dict[str, Definition]:
        """What its own type, and those of its categories and all above them, ask for.

        Raises UnknownCategory, UnknownProductType, AttributeRefused.
        """
        wanted = [UUID(content.product_type_id)] if content.product_type_id else []
        for category_id in map(UUID, content.category_ids):
            if category_id not in self.named:
                raise UnknownCategory(category_id=category_id)
            for each in (category_id, *self.named[category_id].ancestor_ids):
                of_it = self.named[each].product_type_id
                wanted += [of_it] if of_it else []
        for type_id in wanted:
            if type_id not in self.types:
                raise UnknownProductType(product_type_id=type_id)
        return attributes.merge(self.types[type_id] for type_id in dict.fromkeys(wanted))


@dataclass
class Draft:
    """A product and what was decided of it: `events` are what is to be written."""

    product: Product
    surroundings: Surroundings
    at: datetime
    events: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.version = self.product.version  # That was loaded.

    @cached_property
    def product_id(self) -> UUID:
        return UUID(self.product.product_id)

    @property
    def state(self) -> State:
        return folding.state_of(self.product)

    @property
    def ever_published(self) -> bool:
        return self.product.HasField("first_publish_time")

    def happen(self, kind: type[Any], **facts: Any) -> None:
        event = kind(product_id=self.product.product_id, version=self.product.version + 1, **facts)
        folding.take(self.product, event, self.at)
        self.events.append(event)

    def check(self) -> None:
        """What was decided leaves a product that may be. Raises AttributeRefused, NotPublishable, …"""
        if self.state is State.GONE:
            return
        for size, most in _sizes(self.product):
            if size > most:
                raise ProductTooLarge(size=size, max=most)
        if self.state is State.ACTIVE and not self.product.variants:
            raise NotPublishable(product_id=self.product.product_id, why="it has no variant")
        if any(isinstance(event, SAYING) for event in self.events):
            self._check_attributes()

    def _check_attributes(self) -> None:
        content, variants = self.product.content, self.product.variants
        definitions = self.surroundings.definitions(content)
        attributes.check(definitions, reading.values(content.attributes), of_variant=False)
        for variant in variants:
            attributes.check(definitions, reading.values(variant.content.attributes), of_variant=True)
        if self.state is State.ACTIVE:
            _check_publishable(self.product, definitions)


def _sizes(product: Product) -> Iterable[tuple[int, int]]:
    yield product.content.ByteSize(), CONTENT_BYTES_MAX
    yield from ((variant.content.ByteSize(), CONTENT_BYTES_MAX) for variant in product.variants)
    yield product.ByteSize(), PRODUCT_BYTES_MAX


def _check_publishable(product: Product, definitions: Mapping[str, Definition]) -> None:
    def refuse(why: str) -> None:
        raise NotPublishable(product_id=product.product_id, why=why)

    own = reading.values(product.content.attributes)
    if lacking := attributes.missing(definitions, own, of_variant=False):
        refuse(f"it lacks {', '.join(lacking)}")
    for variant in product.variants:
        values = reading.values(variant.content.attributes)
        if lacking := attributes.missing(definitions, values, of_variant=True):
            refuse(f"its variant {variant.content.sku} lacks {', '.join(lacking)}")


def digest_of(request: CreateProductRequest) -> bytes:
    """Tells a repeat from an id that is reused."""
    return hashlib.sha256(request.SerializeToString(deterministic=True)).digest()


def create(draft: Draft, content: ProductContent, digest: bytes) -> None:
    """The content has its slug."""
    draft.happen(events.ProductCreated, content=content, request_sha256=digest)


def add_new(draft: Draft, variants: Sequence[NewVariant]) -> None:
    """Variants with their prices, of a product that is being created. Raises SkuRepeated."""
    for variant in variants:
        if folding.variant_of(draft.product, variant.content.sku):
            raise SkuRepeated(sku=variant.content.sku)
        add_variant(draft, variant.content)
        for price in variant.prices:
            set_price(draft, variant.content.sku, price)


def update(draft: Draft, content: ProductContent) -> None:
    """To `content`, all of it; without a slug it keeps its own."""
    content.slug = content.slug or draft.product.content.slug
    old = draft.product.content
    if paths := [each.name for each in content.DESCRIPTOR.fields if _differ(old, content, each.name)]:
        draft.happen(events.ProductUpdated, content=content, paths=paths)


def _differ(one: ProductContent, other: ProductContent, name: str) -> bool:
    return bool(getattr(one, name) != getattr(other, name))


def _variant(draft: Draft, sku: str) -> ProductVariant:
    found = folding.variant_of(draft.product, sku)
    if found is None:
        raise UnknownVariant(sku=sku)
    return found


def add_variant(draft: Draft, variant: VariantContent) -> None:
    """Raises VariantExists, TooManyVariants, GtinRefused."""
    if known := folding.variant_of(draft.product, variant.sku):
        if known.content != variant:
            raise VariantExists(sku=variant.sku)
        return
    if len(draft.product.variants) >= VARIANTS_MAX:
        raise TooManyVariants(max=VARIANTS_MAX)
    attributes.check_gtin(variant.gtin)
    draft.happen(events.VariantAdded, variant=variant)


def put_variant(draft: Draft, variant: NewVariant) -> None:
    """Adds or changes it, and sets its prices; other prices that it has stay."""
    if folding.variant_of(draft.product, variant.content.sku):
        update_variant(draft, variant.content)
    else:
        add_variant(draft, variant.content)
    for price in variant.prices:
        set_price(draft, variant.content.sku, price)


def update_variant(draft: Draft, variant: VariantContent) -> None:
    """Raises UnknownVariant, GtinRefused."""
    if _variant(draft, variant.sku).content != variant:
        attributes.check_gtin(variant.gtin)
        draft.happen(events.VariantUpdated, variant=variant)


def remove_variant(draft: Draft, sku: str) -> None:
    """Raises UnknownVariant."""
    _variant(draft, sku)
    draft.happen(events.VariantRemoved, sku=sku)


def set_price(draft: Draft, sku: str, price: ListPrice) -> None:
    """Raises UnknownVariant, PriceRefused, UnknownCurrency, TooManyPrices."""
    variant, price = _variant(draft, sku), checked_price(sku, price)
    name = folding.price_name(price)
    same = next((each for each in variant.prices if folding.price_name(each) == name), None)
    if same is None and len(variant.prices) >= PRICES_MAX:
        raise TooManyPrices(max=PRICES_MAX)
    if same != price:
        dated = {each.name: value for each, value in price.ListFields() if each.name != "price"}
        draft.happen(events.PriceChanged, sku=sku, price=price.price, **dated)


def checked_price(sku: str, price: ListPrice) -> ListPrice:
    """As it is kept: its times in whole microseconds. Raises PriceRefused, UnknownCurrency."""
    exponent(price.price.currency)
    if Decimal(price.price.amount) < 0:
        raise PriceRefused(sku, "it is negative")
    kept = ListPrice(price=price.price)
    for name in ("valid_from", "valid_to"):
        if price.HasField(name):
            try:
                getattr(kept, name).FromDatetime(reading.moment(getattr(price, name)))
            except (ValueError, OverflowError):
                raise PriceRefused(sku, f"{name} is no moment between the years 1 and 9999") from None
    made = reading.price(kept)
    if made.begin >= made.end:
        raise PriceRefused(sku, "valid_from is not before valid_to")
    return kept


def remove_price(draft: Draft, sku: str, currency: str, like: Any) -> None:
    """`like` has the `valid_from`. Raises UnknownVariant, UnknownPrice."""
    name = (currency, folding.since(like))
    if not any(folding.price_name(each) == name for each in _variant(draft, sku).prices):
        raise UnknownPrice(sku=sku, currency=currency)
    dated = {"valid_from": like.valid_from} if like.HasField("valid_from") else {}
    draft.happen(events.PriceRemoved, sku=sku, currency=currency, **dated)


def become(draft: Draft, to: State) -> None:
    """Raises IllegalTransition."""
    if not moves(draft.state, to):
        return
    if to is State.GONE:
        skus = [variant.content.sku for variant in draft.product.variants]
        draft.happen(events.ProductDeleted, skus=skus)
    else:
        draft.happen(events.ProductPublished if to is State.ACTIVE else events.ProductArchived)


def canonical(content: ProductContent) -> ProductContent:
    """A copy whose ids are written in one way, each once."""
    made = ProductContent()
    made.CopyFrom(content)
    ids = dict.fromkeys(str(UUID(category_id)) for category_id in content.category_ids)
    del made.category_ids[:]
    made.category_ids.extend(ids)
    made.product_type_id = str(UUID(content.product_type_id)) if content.product_type_id else ""
    return made
