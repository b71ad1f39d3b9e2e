"""From the contract's messages to what the rules are about."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from services.catalog.domain.attributes import Definition, Kind, Value, number_text
from services.catalog.domain.prices import EVER, NEVER, Price
from services.catalog.domain.words import code_words, vector, vocabulary, words
from weft.catalog.v1.content_pb2 import Attribute, ListPrice, TaxCategory
from weft.catalog.v1.definition_pb2 import AttributeDefinition, ProductTypeContent
from weft.catalog.v1.product_messages_pb2 import Product

TERM_CHARS_MAX = 200  # A longer text is read, not chosen from a list.
KINDS = {
    AttributeDefinition.KIND_TEXT: Kind.TEXT,
    AttributeDefinition.KIND_NUMBER: Kind.NUMBER,
    AttributeDefinition.KIND_BOOLEAN: Kind.BOOLEAN,
    AttributeDefinition.KIND_CHOICE: Kind.CHOICE,
    AttributeDefinition.KIND_DIMENSIONS: Kind.DIMENSIONS,
    AttributeDefinition.KIND_DATE: Kind.DATE,
}


def definition(pb: AttributeDefinition) -> Definition:
    return Definition(
        key=pb.key,
        kind=KINDS[pb.kind],
        of_variant=pb.level == AttributeDefinition.LEVEL_VARIANT,
        required=pb.required,
        unit=pb.unit,
        choices=frozenset(pb.choices),
        least=Decimal(pb.number_min) if pb.number_min else None,
        most=Decimal(pb.number_max) if pb.number_max else None,
    )


def definitions(content: ProductTypeContent) -> list[Definition]:
    return [definition(each) for each in content.attributes]


def value(pb: Attribute) -> Value:
    kind = Kind(str(pb.WhichOneof("value")))
    if kind is Kind.NUMBER:
        return Value(pb.key, kind, number_text(pb.number.amount), pb.number.unit)
    if kind is Kind.DIMENSIONS:
        sides = (pb.dimensions.length, pb.dimensions.width, pb.dimensions.height)
        return Value(pb.key, kind, " x ".join(map(number_text, sides)), pb.dimensions.unit)
    if kind is Kind.BOOLEAN:
        return Value(pb.key, kind, "true" if pb.boolean else "false")
    return Value(pb.key, kind, getattr(pb, kind))


def values(attributes: Iterable[Attribute]) -> list[Value]:
    return [value(each) for each in attributes]


def moment(pb: Timestamp) -> datetime:
    return pb.ToDatetime(tzinfo=UTC)


def stamp(at: datetime) -> Timestamp:
    made = Timestamp()
    made.FromDatetime(at)
    return made


def price(pb: ListPrice) -> Price:
    return Price(
        Decimal(pb.price.amount),
        moment(pb.valid_from) if pb.HasField("valid_from") else EVER,
        moment(pb.valid_to) if pb.HasField("valid_to") else NEVER,
    )


def by_currency(product: Product) -> Mapping[str, Sequence[Sequence[Price]]]:
    """The prices of each variant that has some, by currency."""
    made: dict[str, list[list[Price]]] = {}
    for variant in product.variants:
        own: dict[str, list[Price]] = {}
        for each in variant.prices:
            own.setdefault(each.price.currency, []).append(price(each))
        for currency, prices in own.items():
            made.setdefault(currency, []).append(prices)
    return made


def tax_category(product: Product, own: Any) -> TaxCategory.ValueType:
    """A variant's own, else the product's, else the standard one."""
    return own or product.content.tax_category or TaxCategory.TAX_CATEGORY_STANDARD


def terms(product: Product) -> list[str]:
    """`facet=value` of each facet, sorted."""
    content = product.content
    found = {f"category={category_id}" for category_id in content.category_ids}
    if content.brand:
        found.add(f"brand={content.brand}")
    if content.product_type_id:
        found.add(f"product_type={content.product_type_id}")
    for each in _all_values(product):
        if each.kind is not Kind.DIMENSIONS and len(each.text) <= TERM_CHARS_MAX:
            found.add(f"{each.key}={each.text}")
    return sorted(found)


def search_words(product: Product) -> tuple[str, set[str]]:
    """The text vector, and the words that a misspelled one may have meant."""
    content = product.content
    title, described = words(content.title), words(content.description)
    names = words(content.brand)
    codes: list[str] = []
    for variant in product.variants:
        names += words(variant.content.title)
        codes += code_words(variant.content.sku) + code_words(variant.content.gtin)
    said = [
        word
        for each in _all_values(product)
        if each.kind in (Kind.TEXT, Kind.CHOICE)
        for word in words(each.text)
    ]
    made = vector([("A", title), ("B", names + codes), ("C", said), ("D", described)])
    return made, vocabulary([*title, *names, *said, *described])


def _all_values(product: Product) -> list[Value]:
    own = values(product.content.attributes)
    return own + [each for variant in product.variants for each in values(variant.content.attributes)]
