"""Where a REST request holds the fields of its message: path, query, body."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor

from generation.contract import Contract, is_map
from generation.openapi.schemas import FREE, TEXTUAL, Schemas, well_known
from generation.rest import Binding, field_at

HTTP_BODY = "google.api.HttpBody"
MEDIA = "application/json"
NESTING_MAX = 4  # Query parameters reach into messages; this ends one that holds itself.


def parameters(
    contract: Contract, schemas: Schemas, method: MethodDescriptor, binding: Binding
) -> list[dict[str, Any]]:
    found = [_path(contract, schemas, method, variable) for variable in binding.variables]
    if binding.body != "*":
        held = {*binding.variables, binding.body}
        for name, field in _query(method.input_type, held, "", "", NESTING_MAX):
            found.append(_parameter(schemas, name, "query", field))
    if _repeatable(contract, method, binding):
        found.append({"$ref": "#/components/parameters/IdempotencyKey"})
    return found


def body(schemas: Schemas, method: MethodDescriptor, binding: Binding) -> dict[str, Any] | None:
    """The request's body; None when the route takes none."""
    if not binding.body:
        return None
    message = method.input_type
    if binding.body != "*":
        field = message.fields_by_name[binding.body]
        if is_http_body(field.message_type):
            return {"content": {"*/*": {}}}
        schema = schemas.field(field)
    elif is_http_body(message):
        return {"required": True, "content": {"*/*": {}}}
    elif binding.variables:
        schema = schemas.message(message, without=binding.variables)
    else:
        schema = schemas.reference(message)
    if method.client_streaming:
        schema = {"type": "array", "items": schema}
    return {"required": True, "content": {MEDIA: {"schema": schema}}}


def is_http_body(message: Descriptor | None) -> bool:
    return message is not None and message.full_name == HTTP_BODY


def json_path(message: Descriptor, path: str) -> str:
    """user.user_id -> user.userId"""
    name, _, rest = path.partition(".")
    field = message.fields_by_name[name]
    inner = json_path(field.message_type, rest) if rest and field.message_type is not None else ""
    return ".".join(filter(None, (field.json_name, inner)))


def _path(contract: Contract, schemas: Schemas, method: MethodDescriptor, variable: str) -> dict[str, Any]:
    field = field_at(contract, method, variable)
    assert field is not None  # rules.py refuses a route whose variable is no field.
    found = _parameter(schemas, json_path(method.input_type, variable), "path", field)
    return found | {"required": True}


def _parameter(schemas: Schemas, name: str, place: str, field: FieldDescriptor) -> dict[str, Any]:
    schema = schemas.field(field)
    found: dict[str, Any] = {"name": name, "in": place}
    if "description" in schema:
        found["description"] = schema.pop("description")
    if schema.pop("deprecated", False):
        found["deprecated"] = True
    if place == "query" and schemas.is_required(field):
        found["required"] = True
    return found | {"schema": schema}


def _query(
    message: Descriptor, held: set[str], prefix: str, path: str, depth: int
) -> Iterator[tuple[str, FieldDescriptor]]:
    for field in message.fields:
        here = path + field.name
        if here in held or is_map(field):
            continue
        inner = field.message_type
        if inner is None or well_known(inner, TEXTUAL) is not None:
            yield prefix + field.json_name, field
        elif depth and not field.is_repeated and well_known(inner, FREE) is None and not is_http_body(inner):
            yield from _query(inner, held, f"{prefix}{field.json_name}.", f"{here}.", depth - 1)


def _repeatable(contract: Contract, method: MethodDescriptor, binding: Binding) -> bool:
    """Whether only an idempotency key makes a repeat safe."""
    unknown = contract.options(method).idempotency_level == 0
    return unknown and binding.verb != "get" and not (method.client_streaming or method.server_streaming)
