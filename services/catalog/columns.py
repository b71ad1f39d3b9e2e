"""Columns of a CSV file, and the product that a line of it is.

A line is one variant. Lines with the same `product_id` are variants of one product; a line without one
is a product by itself, whose id follows from the sku.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from uuid import UUID, uuid5

from services.catalog.domain.refusals import CellRefused, LineRefused, WrongColumns
from services.catalog.importing import Told
from weft.catalog.v1.content_pb2 import Attribute, Dimensions, ListPrice, Measure, Media, TaxCategory
from weft.catalog.v1.product_messages_pb2 import NewVariant, ProductState
from weft.catalog.v1.transfer_pb2 import CsvFormat, ProductRow
from weft.money.v1.money_pb2 import UnitPrice

COLUMNS_MAX = 250  # More than all attributes, prices and the others together that one file has.
BY_SKU = UUID("5b0c4c3e-8f0e-4d53-9a43-6f6d3a1f2c11")  # Space of ids that follow from skus.
REQUIRED = ("sku", "title")
PRICE = re.compile(r"price\.([A-Z]{3})")
ATTRIBUTE = re.compile(r"(variant_)?attribute\.([a-z][a-z0-9_]{0,63})(?::([a-z]+)(?::(.{1,16}))?)?")
KINDS = ("text", "number", "boolean", "choice", "dimensions", "date")
TRUE, FALSE = {"1", "true", "yes"}, {"0", "false", "no"}
NUMBER = re.compile(r"-?\d{1,12}(\.\d{1,6})?")
WHOLE = re.compile(r"\d{1,9}")

Fill = Callable[[ProductRow, str], None]


class Columns:
    """What each column of a file means."""

    def __init__(self, header: Sequence[str], form: CsvFormat) -> None:
        """Raises WrongColumns."""
        ours = {theirs: name for name, theirs in form.columns.items()}
        self.names = [ours.get(name.strip(), name.strip()) for name in header]
        self._comma = form.decimal_comma
        if len(self.names) > COLUMNS_MAX:
            raise WrongColumns(why=f"it has more than {COLUMNS_MAX} columns")
        if lacking := [name for name in REQUIRED if name not in self.names]:
            raise WrongColumns(why=f"it lacks {', '.join(lacking)}; it has {', '.join(self.names)[:300]}")
        if twice := sorted({name for name in self.names if self.names.count(name) > 1}):
            raise WrongColumns(why=f"{', '.join(twice)} comes twice")
        self._fills = [self._fill(name) for name in self.names]

    @cached_property
    def told(self) -> Told:
        """What the file speaks of."""
        found = [match for name in self.names if (match := ATTRIBUTE.fullmatch(name))]
        return Told(
            content=frozenset(field for name in self.names if (field := OF_PRODUCT.get(name))),
            attributes=frozenset(match[2] for match in found if not match[1]),
            variant=frozenset(field for name in self.names if (field := OF_VARIANT.get(name))),
            variant_attributes=frozenset(match[2] for match in found if match[1]),
        )

    def row(self, cells: Sequence[str]) -> ProductRow:
        """Raises CellRefused, LineRefused."""
        if len(cells) != len(self.names):
            raise LineRefused(why=f"it has {len(cells)} cells, and the header {len(self.names)}")
        row = ProductRow(variants=[NewVariant()])
        row.variants[0].content.shippable = True
        for name, fill, cell in zip(self.names, self._fills, cells, strict=True):
            if not cell.strip():
                continue
            try:
                fill(row, cell.strip())
            except ValueError as error:
                raise CellRefused(name, str(error)) from None
        row.product_id = row.product_id or str(uuid5(BY_SKU, row.variants[0].content.sku))
        return row

    def _fill(self, name: str) -> Fill:
        """Raises WrongColumns for a name that means nothing."""
        if name in FILLS:
            return FILLS[name]
        if found := PRICE.fullmatch(name):
            return self._price(found[1])
        if (found := ATTRIBUTE.fullmatch(name)) and (found[3] or "text") in KINDS:
            return self._attribute(found)
        known = ", ".join([*FILLS, "price.EUR", "attribute.KEY:KIND:UNIT", "variant_attribute.KEY:KIND:UNIT"])
        raise WrongColumns(why=f"`{name[:100]}` is no column; these are: {known}")

    def _price(self, currency: str) -> Fill:
        def fill(row: ProductRow, cell: str) -> None:
            price = UnitPrice(amount=self._number(cell), currency=currency)
            row.variants[0].prices.append(ListPrice(price=price))

        return fill

    def _attribute(self, found: re.Match[str]) -> Fill:
        of_variant, key, kind, unit = bool(found[1]), found[2], found[3] or "text", found[4] or ""

        def fill(row: ProductRow, cell: str) -> None:
            content = row.variants[0].content if of_variant else row.content
            content.attributes.append(self._value(key, kind, unit, cell))

        return fill

    def _value(self, key: str, kind: str, unit: str, cell: str) -> Attribute:
        if kind == "number":
            return Attribute(key=key, number=Measure(amount=self._number(cell), unit=unit))
        if kind == "boolean":
            return Attribute(key=key, boolean=_boolean(cell))
        if kind == "dimensions":
            sides = [self._number(side.strip()) for side in re.split("[xX\u00d7]", cell)]
            if len(sides) != 3:
                raise ValueError(f"`{cell[:50]}` is not length x width x height")
            length, width, height = sides
            return Attribute(
                key=key, dimensions=Dimensions(length=length, width=width, height=height, unit=unit)
            )
        made = Attribute(key=key)
        setattr(made, kind, cell)
        return made

    def _number(self, cell: str) -> str:
        text = cell.replace(",", ".") if self._comma else cell
        if not NUMBER.fullmatch(text):
            hint = "" if self._comma or "," not in cell else "; is it a decimal comma?"
            raise ValueError(f"`{cell[:50]}` is no number{hint}")
        return re.sub(r"^(-?)0+(?=\d)", r"\1", text)


def _boolean(cell: str) -> bool:
    if cell.lower() not in TRUE | FALSE:
        raise ValueError(f"`{cell[:50]}` is neither true nor false")
    return cell.lower() in TRUE


def _named(cell: str, prefix: str, names: Mapping[str, int]) -> int:
    """A value of an enum, by its name in any case without the prefix."""
    name = f"{prefix}_{cell.upper()}"
    if name not in names or not names[name]:
        known = ", ".join(each.removeprefix(f"{prefix}_").lower() for each, n in names.items() if n)
        raise ValueError(f"`{cell[:50]}` is none of {known}")
    return names[name]


def _weight(row: ProductRow, cell: str) -> None:
    if not WHOLE.fullmatch(cell):
        raise ValueError(f"`{cell[:50]}` is no whole number of grams")
    row.variants[0].content.weight_g = int(cell)


def _content(name: str) -> Fill:
    return lambda row, cell: setattr(row.content, name, cell)


def _variant(name: str) -> Fill:
    return lambda row, cell: setattr(row.variants[0].content, name, cell)


def _ids(row: ProductRow, cell: str) -> None:
    row.content.category_ids.extend(part for part in re.split(r"[\s;|]+", cell) if part)


def _images(row: ProductRow, cell: str) -> None:
    row.content.media.extend(Media(url=url, kind=Media.KIND_IMAGE) for url in cell.split())


# Fields of the contract, by column.
OF_PRODUCT = {name: name for name in ("title", "description", "brand", "slug", "product_type_id")}
OF_PRODUCT |= {"category_ids": "category_ids", "tax_category": "tax_category", "image_urls": "media"}
OF_VARIANT = {name: name for name in ("sku", "gtin", "weight_g", "shippable")} | {"variant_title": "title"}
FILLS: dict[str, Fill] = {
    "product_id": lambda row, cell: setattr(row, "product_id", cell),
    **{name: _content(name) for name in ("title", "description", "brand", "slug", "product_type_id")},
    "sku": _variant("sku"),
    "category_ids": _ids,
    "tax_category": lambda row, cell: setattr(
        row.content, "tax_category", _named(cell, "TAX_CATEGORY", dict(TaxCategory.items()))
    ),
    "state": lambda row, cell: setattr(
        row, "state", _named(cell, "PRODUCT_STATE", dict(ProductState.items()))
    ),
    "image_urls": _images,
    "variant_title": _variant("title"),
    "gtin": _variant("gtin"),
    "weight_g": _weight,
    "shippable": lambda row, cell: setattr(row.variants[0].content, "shippable", _boolean(cell)),
}
