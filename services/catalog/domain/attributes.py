"""Attributes: what a type asks for, and whether a value is one."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum

from services.catalog.domain.refusals import AttributeRefused, DefinitionRefused, GtinRefused

RESERVED = {"brand", "category", "product_type", "in_stock"}  # Facets that are no attributes.


class Kind(StrEnum):
    """Named like the fields of an Attribute's value."""

    TEXT = "text"
    NUMBER = "number"
    BOOLEAN = "boolean"
    CHOICE = "choice"
    DIMENSIONS = "dimensions"
    DATE = "date"


@dataclass(frozen=True, slots=True)
class Definition:
    """What a type asks for."""

    key: str
    kind: Kind
    of_variant: bool = False
    required: bool = False
    unit: str = ""
    choices: frozenset[str] = frozenset()
    least: Decimal | None = None
    most: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Value:
    """What a product has: `text` as facets show it, `unit` where one was named."""

    key: str
    kind: Kind
    text: str
    unit: str = ""


def number_text(amount: str) -> str:
    """The same for equal numbers: `10` for `10.00`."""
    return f"{Decimal(amount).normalize():f}"


def merge(types: Iterable[Sequence[Definition]]) -> dict[str, Definition]:
    """What several types ask for together: a key that two define means one thing, required if either says.

    Raises AttributeRefused.
    """
    merged: dict[str, Definition] = {}
    for definition in (definition for each in types for definition in each):
        known = merged.setdefault(definition.key, definition)
        if (known.kind, known.unit, known.of_variant) != (
            definition.kind,
            definition.unit,
            definition.of_variant,
        ):
            raise AttributeRefused(definition.key, "the product's types define it differently")
        if definition.required:
            merged[definition.key] = definition
    return merged


def check(definitions: Mapping[str, Definition], values: Sequence[Value], *, of_variant: bool) -> None:
    """Raises AttributeRefused for the first that is not asked for, comes twice, or is no such value."""
    seen: set[str] = set()
    for value in values:
        definition = definitions.get(value.key)
        if definition is None or definition.of_variant is not of_variant:
            where = "variants" if of_variant else "products"
            raise AttributeRefused(value.key, f"no type of the product asks it of {where}")
        if value.key in seen:
            raise AttributeRefused(value.key, "it comes twice")
        seen.add(value.key)
        if problem := _problem(definition, value):
            raise AttributeRefused(value.key, problem)


def _problem(definition: Definition, value: Value) -> str:
    """Why `value` is none of `definition`; empty when it is."""
    if value.kind is not definition.kind:
        return f"it is of kind {definition.kind}, not {value.kind}"
    if value.unit not in ("", definition.unit):
        return f"its unit is {definition.unit or 'none'}, not {value.unit}"
    if definition.kind is Kind.CHOICE and value.text not in definition.choices:
        return f"`{value.text}` is none of its choices"
    if definition.kind is Kind.DATE and not _is_date(value.text):
        return f"`{value.text}` is no day"
    if definition.kind is Kind.NUMBER:
        number = Decimal(value.text)
        if definition.least is not None and number < definition.least:
            return f"it is at least {definition.least}"
        if definition.most is not None and number > definition.most:
            return f"it is at most {definition.most}"
    return ""


def missing(definitions: Mapping[str, Definition], values: Sequence[Value], *, of_variant: bool) -> list[str]:
    """Keys that are required and have no value, sorted."""
    have = {value.key for value in values}
    return sorted(
        key
        for key, definition in definitions.items()
        if definition.required and definition.of_variant is of_variant and key not in have
    )


def check_definitions(new: Sequence[Definition], old: Sequence[Definition] = ()) -> None:
    """Raises DefinitionRefused: keys differ, and an attribute keeps its kind and unit."""
    before = {definition.key: definition for definition in old}
    seen: set[str] = set()
    for definition in new:
        known = before.get(definition.key, definition)
        if definition.key in RESERVED:
            raise DefinitionRefused(definition.key, "the name is taken by a facet of every product")
        if definition.key in seen:
            raise DefinitionRefused(definition.key, "it comes twice")
        if (known.kind, known.unit) != (definition.kind, definition.unit):
            was = " ".join(filter(None, (known.kind, known.unit)))
            raise DefinitionRefused(definition.key, f"it is of kind {was} and stays so; add another key")
        bounds = definition.least, definition.most
        if bounds != (None, None) and definition.kind is not Kind.NUMBER:
            raise DefinitionRefused(definition.key, "only numbers have bounds")
        if bounds[0] is not None and bounds[1] is not None and bounds[0] > bounds[1]:
            raise DefinitionRefused(definition.key, "its smallest number is above its largest")
        seen.add(definition.key)


def _is_date(text: str) -> bool:
    try:
        return bool(re.fullmatch(r"\d{4}-\d\d-\d\d", text)) and bool(date.fromisoformat(text))
    except ValueError:
        return False


def check_gtin(gtin: str) -> None:
    """Raises GtinRefused unless the last digit is the check digit (GS1 General Specifications 7.9)."""
    if not gtin:
        return
    digits = [int(digit) for digit in gtin]
    weighted = sum(digit * (3 if n % 2 == 0 else 1) for n, digit in enumerate(reversed(digits[:-1])))
    if (expected := -weighted % 10) != digits[-1]:
        raise GtinRefused(gtin, expected)
