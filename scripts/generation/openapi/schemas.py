"""Messages and enums as JSON Schema, in the shape that the edge reads and writes (proto3 JSON)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, OneofDescriptor

from generation.contract import Contract, is_map
from generation.inventory import OPTIONS
from generation.openapi.limits import Limits, limits, required
from generation.openapi.texts import paragraphs

Schema = dict[str, Any]
REFERENCE = "#/components/schemas/"
OUTPUT_ONLY, INPUT_ONLY = 3, 4  # google.api.FieldBehavior

F = FieldDescriptor
# 64-bit integers are strings: JSON numbers lose digits beyond 2^53.
INTEGER64 = {"type": "string", "format": "int64", "pattern": "^-?[0-9]+$"}
UNSIGNED64 = {"type": "string", "format": "uint64", "pattern": "^[0-9]+$"}
INTEGER32 = {"type": "integer", "format": "int32"}
UNSIGNED32 = {"type": "integer", "format": "uint32", "minimum": 0}
SCALARS: dict[int, Schema] = {
    F.TYPE_STRING: {"type": "string"},
    F.TYPE_BOOL: {"type": "boolean"},
    F.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
    F.TYPE_DOUBLE: {"type": "number", "format": "double"},
    F.TYPE_FLOAT: {"type": "number", "format": "float"},
    **dict.fromkeys((F.TYPE_INT32, F.TYPE_SINT32, F.TYPE_SFIXED32), INTEGER32),
    **dict.fromkeys((F.TYPE_UINT32, F.TYPE_FIXED32), UNSIGNED32),
    **dict.fromkeys((F.TYPE_INT64, F.TYPE_SINT64, F.TYPE_SFIXED64), INTEGER64),
    **dict.fromkeys((F.TYPE_UINT64, F.TYPE_FIXED64), UNSIGNED64),
}
# Messages with a JSON form of their own, by name within google.protobuf.
TEXTUAL: dict[str, Schema] = {
    "Timestamp": {"type": "string", "format": "date-time"},
    "Duration": {
        "type": "string",
        "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$",
        "examples": ["1.5s"],
    },
    "FieldMask": {"type": "string", "description": "Paths of fields, separated by commas."},
    "StringValue": {"type": "string"},
    "BytesValue": {"type": "string", "contentEncoding": "base64"},
    "BoolValue": {"type": "boolean"},
    "Int32Value": INTEGER32,
    "UInt32Value": UNSIGNED32,
    "Int64Value": INTEGER64,
    "UInt64Value": UNSIGNED64,
    "FloatValue": {"type": "number"},
    "DoubleValue": {"type": "number"},
}
FREE: dict[str, Schema] = {
    "Struct": {"type": "object"},
    "Value": {},
    "ListValue": {"type": "array"},
    "Empty": {"type": "object"},
    "Any": {"type": "object", "properties": {"@type": {"type": "string"}}, "required": ["@type"]},
}


def well_known(message: Descriptor | None, forms: dict[str, Schema]) -> Schema | None:
    if message is None or message.file.package != "google.protobuf":
        return None
    return forms.get(message.name)


class Schemas:
    """The components that were asked for so far, and all that they refer to."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self.components: dict[str, Schema] = {}

    def reference(self, item: Descriptor | EnumDescriptor) -> Schema:
        if item.full_name not in self.components:
            self.components[item.full_name] = {}  # A message may hold itself.
            made = self._enum(item) if isinstance(item, EnumDescriptor) else self.message(item)
            self.components[item.full_name] = made
        return {"$ref": REFERENCE + item.full_name}

    def message(self, message: Descriptor, without: Iterable[str] = ()) -> Schema:
        """The object; `without` the fields that stand elsewhere in the request."""
        held = [field for field in message.fields if field.name not in set(without)]
        needed = required(message)
        needless = [self._oneof(each, without) for each in message.oneofs if _is_choice(each)]
        rules = self._contract.option(message, "buf.validate.message")
        said = [f"{rule.message}." for rule in rules.cel if rule.message] if rules is not None else []
        description = paragraphs(self._contract.comment(message), *said, *filter(None, needless))
        schema = {
            "type": "object",
            "description": description,
            "properties": {field.json_name: self.field(field) for field in held},
            "required": [field.json_name for field in held if field.name in needed],
        }
        return {name: value for name, value in schema.items() if value or name == "type"}

    def is_required(self, field: FieldDescriptor) -> bool:
        message = field.containing_type
        return message is not None and field.name in required(message)

    def field(self, field: FieldDescriptor) -> Schema:
        """The field's value with its limits and what its comment says."""
        contract = self._contract
        limit = limits(contract.option(field, "buf.validate.field"))
        schema = self._value(field, limit)
        notes = paragraphs(contract.comment(field), " ".join(limit.notes))
        if notes:
            schema["description"] = notes
        if contract.options(field).deprecated:
            schema["deprecated"] = True
        behaviors = contract.option(field, "google.api.field_behavior") or ()
        schema |= {"readOnly": True} if OUTPUT_ONLY in behaviors else {}
        schema |= {"writeOnly": True} if INPUT_ONLY in behaviors else {}
        for mark in ("personal", "secret"):
            schema |= {f"x-{mark}": True} if contract.option(field, f"{OPTIONS}.{mark}") else {}
        if schema.get("x-secret") and schema.get("type") == "string":
            schema.setdefault("format", "password")
        return schema

    def _value(self, field: FieldDescriptor, limit: Limits) -> Schema:
        if is_map(field) and field.message_type is not None:
            value = field.message_type.fields_by_name["value"]
            schema = {"type": "object", "additionalProperties": self._one(value, limit.items)}
            if limit.keys and limit.keys.keywords:
                schema["propertyNames"] = limit.keys.keywords
            return schema | limit.keywords
        if field.is_repeated:
            return {"type": "array", "items": self._one(field, limit.items)} | limit.keywords
        return self._one(field, limit)

    def _one(self, field: FieldDescriptor, limit: Limits | None) -> Schema:
        keywords = dict(limit.keywords) if limit else {}
        if field.enum_type:
            return self.reference(field.enum_type) | {
                keyword: _named(value, field.enum_type) for keyword, value in keywords.items()
            }
        known = well_known(field.message_type, TEXTUAL | FREE)
        if known is not None:
            return known | keywords
        if field.message_type:
            return self.reference(field.message_type)
        return SCALARS[field.type] | keywords

    def _enum(self, enum: EnumDescriptor) -> Schema:
        comments = {value.name: self._contract.value_comment(enum, value.name) for value in enum.values}
        listed = "\n".join(f"- `{name}`: {' '.join(said.split())}" for name, said in comments.items() if said)
        schema = {"type": "string", "enum": list(comments)}
        description = paragraphs(self._contract.comment(enum), listed)
        return schema | ({"description": description} if description else {})

    def _oneof(self, oneof: OneofDescriptor, without: Iterable[str]) -> str:
        names = [f"`{field.json_name}`" for field in oneof.fields if field.name not in set(without)]
        rules = self._contract.option(oneof, "buf.validate.oneof")
        how = "Exactly" if rules is not None and rules.required else "At most"
        return f"{how} one of {', '.join(names)}." if len(names) > 1 else ""


def _is_choice(oneof: OneofDescriptor) -> bool:
    # `optional` is a oneof of one field, which protoc names with an underscore.
    return not (len(oneof.fields) == 1 and oneof.name == f"_{oneof.fields[0].name}")


def _named(value: Any, enum: EnumDescriptor) -> Any:
    """Limits of an enum with names in place of numbers."""
    if isinstance(value, dict):
        return {name: _named(each, enum) for name, each in value.items()}
    if isinstance(value, list):
        return [_named(each, enum) for each in value]
    return enum.values_by_number[value].name
