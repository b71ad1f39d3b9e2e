"""Validation rules (buf.validate) as JSON Schema keywords, and as sentences where it has none."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import protovalidate
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor
from google.protobuf.json_format import MessageToDict

FORMATS = {
    "email": "email",
    "hostname": "hostname",
    "ipv4": "ipv4",
    "ipv6": "ipv6",
    "uri": "uri",
    "uri_ref": "uri-reference",
    "uuid": "uuid",
}
STRINGS = {"min_len": "minLength", "max_len": "maxLength", "pattern": "pattern", "const": "const"}
NUMBERS = {
    "gt": "exclusiveMinimum",
    "gte": "minimum",
    "lt": "exclusiveMaximum",
    "lte": "maximum",
    "const": "const",
}
LISTS = {"min_items": "minItems", "max_items": "maxItems", "unique": "uniqueItems"}
MAPS = {"min_pairs": "minProperties", "max_pairs": "maxProperties"}
SENTENCES = {
    "gt": "More than {}.",
    "gte": "At least {}.",
    "lt": "Less than {}.",
    "lte": "At most {}.",
    "const": "Always {}.",
    "within": "Within {} of now.",
    "gt_now": "In the future.",
    "lt_now": "In the past.",
    "min_bytes": "At least {} bytes as UTF-8.",
    "max_bytes": "At most {} bytes as UTF-8.",
    "len_bytes": "{} bytes as UTF-8.",
    "prefix": "Begins with `{}`.",
    "suffix": "Ends with `{}`.",
    "contains": "Contains `{}`.",
    "not_contains": "Without `{}`.",
}
BYTES = {"len": "{} bytes.", "min_len": "At least {} bytes.", "max_len": "At most {} bytes."}
# In JSON these are strings, which have no order; their limits are sentences.
TEXTUAL = {"int64", "uint64", "sint64", "fixed64", "sfixed64", "duration", "timestamp"}
IGNORE_ALWAYS = 3  # buf.validate.Ignore
FLAGS = re.compile(r"\(\?[a-z]+[):]")  # RE2's, which ECMA-262 does not have.


@dataclass
class Limits:
    """What a field's rules say."""

    keywords: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    items: Limits | None = None  # A list's items, a map's values.
    keys: Limits | None = None


def limits(rules: Any) -> Limits:
    """The limits that FieldRules set; none for a field without rules. Those of an enum are numbers."""
    found = Limits()
    if rules is None or rules.ignore == IGNORE_ALWAYS:
        return found
    found.notes += [f"{rule.message}." for rule in rules.cel if rule.message]
    kind = rules.WhichOneof("type")
    if kind in ("repeated", "map"):
        _many(getattr(rules, kind), found)
    elif kind:
        _one(kind, getattr(rules, kind), found)
    return found


def _many(own: Any, found: Limits) -> None:
    said = _said(own)
    _rename(said, LISTS | MAPS, found)
    inner = said.get("items", said.get("values"))
    found.items, found.keys = limits(inner), limits(said.get("keys"))
    found.notes += [f"Each: {note}" for note in found.items.notes]


def _one(kind: str, own: Any, found: Limits) -> None:
    said = _said(own)
    if kind == "string":
        _string(said, found)
    elif kind == "bytes":
        _bytes(said, found)
    elif kind in TEXTUAL:
        _sentences(MessageToDict(own, preserving_proto_field_name=True), found)
    else:
        _rename(said, NUMBERS, found)
        _choices(said, found)


def _said(own: Any) -> dict[str, Any]:
    return {descriptor.name: value for descriptor, value in own.ListFields() if not descriptor.is_extension}


def required(message: Descriptor) -> set[str]:
    """Fields that a request cannot leave out: validation finds fault with the empty message there."""
    empty = message_factory.GetMessageClass(message)()
    fields = (violation.proto.field for violation in protovalidate.collect_violations(empty))
    paths = [field.elements for field in fields if field is not None]
    return {path[0].field_name for path in paths if len(path) == 1} & set(message.fields_by_name)


def _string(said: dict[str, Any], found: Limits) -> None:
    pattern = said.get("pattern", "")
    if FLAGS.search(pattern):
        found.notes.append(f"Matches `{said.pop('pattern')}` (RE2).")
    _rename(said, STRINGS, found)
    if "len" in said:
        found.keywords |= {"minLength": said["len"], "maxLength": said["len"]}
    for name, value in said.items():
        if name in FORMATS and value:
            found.keywords["format"] = FORMATS[name]
        elif isinstance(value, bool) and value and name != "strict":
            found.notes.append(f"A well-formed `{name}`.")
    _sentences({name: value for name, value in said.items() if name not in STRINGS}, found)
    _choices(said, found)


def _bytes(said: dict[str, Any], found: Limits) -> None:
    longest = said.get("len", said.get("max_len"))
    if longest is not None:
        found.keywords["maxLength"] = -(-longest // 3) * 4  # As base64.
    for name, sentence in BYTES.items():
        if name in said:
            found.notes.append(sentence.format(said[name]))


def _sentences(said: dict[str, Any], found: Limits) -> None:
    for name, sentence in SENTENCES.items():
        if name in said:
            found.notes.append(sentence.format(said[name]))
    for name, sentence in (("in", "One of {}."), ("not_in", "None of {}.")):
        if name in said and "enum" not in found.keywords and not isinstance(next(iter(said[name])), str):
            found.notes.append(sentence.format(", ".join(map(str, said[name]))))


def _choices(said: dict[str, Any], found: Limits) -> None:
    if "in" in said:
        found.keywords["enum"] = list(said["in"])
    if "not_in" in said:
        found.keywords["not"] = {"enum": list(said["not_in"])}


def _rename(said: dict[str, Any], names: dict[str, str], found: Limits) -> None:
    found.keywords |= {names[name]: value for name, value in said.items() if name in names}
