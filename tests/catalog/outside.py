"""Catalogues of real shops, as rows: olist's products, Best Buy's tree of categories."""

import csv
import gzip
import json
from collections.abc import Iterator
from uuid import UUID, uuid5

from tests.catalog.shop import list_price, variant
from tests.data import shared
from weft.catalog.v1.category_pb2 import CategoryRow
from weft.catalog.v1.content_pb2 import Attribute, Dimensions, Measure
from weft.catalog.v1.definition_pb2 import AttributeDefinition, CategoryContent, ProductTypeContent
from weft.catalog.v1.product_messages_pb2 import ProductState
from weft.catalog.v1.product_type_pb2 import CreateProductTypeRequest
from weft.catalog.v1.transfer_pb2 import ProductRow

SPACE = UUID("6f2a5f0e-0f5e-4f6e-9a5e-2c1d3b4a5e6f")  # Of ids that follow from outside names.
NO_CATEGORY = "sem_categoria"  # 610 of olist's products name none.
PARCEL = str(uuid5(SPACE, "parcel"))
WORDS = ["azul", "verde", "preto", "branco", "vermelho", "grande", "pequeno", "novo", "classico", "premium"]
BRANDS = ["Acme", "Boreal", "Casa Viva", "Delta", "Estrela", "Fischer", "Gala", "Havana"]


def parcel_type() -> CreateProductTypeRequest:
    """What olist says of a product; none of it is always there."""
    definition = AttributeDefinition
    attributes = [
        definition(key="photos", kind=definition.KIND_NUMBER),
        definition(key="parcel", kind=definition.KIND_DIMENSIONS, unit="cm"),
        definition(key="name_length", kind=definition.KIND_NUMBER, number_min="0"),
    ]
    content = ProductTypeContent(name="Parcel", attributes=attributes)
    return CreateProductTypeRequest(product_type_id=PARCEL, content=content)


def olist_categories() -> dict[str, str]:
    """English names by Portuguese ones, of all that products name."""
    with open(shared("02_catalog/olist/product_category_name_translation.csv"), encoding="utf-8-sig") as file:
        translated = dict(csv.reader(file))
    del translated["product_category_name"]
    named = {row["product_category_name"] or NO_CATEGORY for row in _olist()}
    return {name: translated.get(name, name).replace("_", " ") for name in sorted(named)}


def olist_category_rows() -> list[CategoryRow]:
    return [
        CategoryRow(category_id=str(uuid5(SPACE, name)), content=CategoryContent(name=english))
        for name, english in olist_categories().items()
    ]


def _olist() -> Iterator[dict[str, str]]:
    path = shared("02_catalog/olist/olist_products_dataset.csv.gz")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from csv.DictReader(file)


def olist_rows() -> Iterator[ProductRow]:
    """Its titles are secret, so they are made of the category, a word and the id; prices are made up."""
    english = olist_categories()
    for n, line in enumerate(_olist()):
        category, key = line["product_category_name"] or NO_CATEGORY, line["product_id"]
        row = ProductRow(product_id=str(UUID(key)), state=ProductState.PRODUCT_STATE_ACTIVE)
        words = f"{english[category]} {category.replace('_', ' ')} {WORDS[n % 10]} {key[:8]}"
        row.content.title, row.content.brand = words, BRANDS[n % 8]
        row.content.product_type_id = PARCEL
        row.content.category_ids.append(str(uuid5(SPACE, category)))
        row.content.attributes.extend(_attributes(line))
        weight = line["product_weight_g"]
        row.variants.append(variant(key, list_price(f"{n % 997}.{n % 100:02}", "BRL")))
        if weight:
            row.variants[0].content.weight_g = int(weight)
        yield row


def _attributes(line: dict[str, str]) -> Iterator[Attribute]:
    if line["product_photos_qty"]:
        yield Attribute(key="photos", number=Measure(amount=line["product_photos_qty"]))
        yield Attribute(key="name_length", number=Measure(amount=line["product_name_lenght"]))
    if line["product_length_cm"]:
        length, width, height = (line[f"product_{side}_cm"] for side in ("length", "width", "height"))
        yield Attribute(key="parcel", dimensions=Dimensions(length=length, width=width, height=height))


def bestbuy_rows() -> list[CategoryRow]:
    """Each below the last but one of its path; 125 name a parent that is not there, some have no name."""
    with gzip.open(shared("02_catalog/bestbuy/categories.json.gz")) as file:
        categories = json.load(file)
    return [
        CategoryRow(
            category_id=str(uuid5(SPACE, each["id"])),
            parent_id=str(uuid5(SPACE, each["path"][-2]["id"])) if len(each["path"]) > 1 else "",
            content=CategoryContent(name=each["name"] or ""),
        )
        for each in categories
    ]
