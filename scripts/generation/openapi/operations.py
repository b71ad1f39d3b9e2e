"""Every REST route as an operation."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.json_format import MessageToDict

from generation.contract import Contract
from generation.inventory import OPTIONS
from generation.openapi.refusals import responses
from generation.openapi.requests import MEDIA, body, is_http_body, json_path, parameters
from generation.openapi.schemas import Schemas
from generation.openapi.texts import paragraphs, text
from generation.rest import VARIABLE, Binding, bindings

NDJSON, EVENTS = "application/x-ndjson", "text/event-stream"


def operations(contract: Contract, schemas: Schemas) -> dict[str, dict[str, Any]]:
    """By path and verb."""
    found: dict[str, dict[str, Any]] = {}
    for method in contract.methods:
        for number, binding in enumerate(bindings(contract, method)):
            operation = _operation(contract, schemas, method, binding)
            operation["operationId"] += f"_{number + 1}" if number else ""
            found.setdefault(_path(method, binding), {})[binding.verb] = operation
    return found


def _operation(
    contract: Contract, schemas: Schemas, method: MethodDescriptor, binding: Binding
) -> dict[str, Any]:
    said = text(contract.comment(method))
    access = contract.option(method, f"{OPTIONS}.access")
    operation = {
        "operationId": method.full_name.removeprefix("weft.").replace(".", "_"),
        "tags": [method.containing_service.full_name],
        "summary": said.summary,
        "description": paragraphs(said.description, _access(method, access), _end(contract, method)),
        "deprecated": contract.options(method).deprecated,
        "parameters": parameters(contract, schemas, method, binding),
        "requestBody": body(schemas, method, binding),
        "responses": {"200": _answer(schemas, method, binding)} | responses(contract, method),
    }
    kept = {name: value for name, value in operation.items() if value}
    if access.public:
        return kept | {"security": []}
    return kept | ({"security": [{"bearer": []}]} if access.in_person else {})


def _path(method: MethodDescriptor, binding: Binding) -> str:
    return VARIABLE.sub(lambda match: f"{{{json_path(method.input_type, match[1])}}}", binding.path)


def _access(method: MethodDescriptor, access: Any) -> str:
    plain = MessageToDict(access, preserving_proto_field_name=True)
    said = []
    if access.public:
        said.append("Open to anyone.")
    if access.signed_in:
        said.append("For any signed-in caller.")
    if access.permission:
        said.append(f"For callers with the permission `{access.permission}`{_own(method, access)}.")
    if "fresh" in plain:
        said.append(f"Asks for a sign-in that is at most {plain['fresh'].removesuffix('s')} s old.")
    if access.in_person:
        said.append("Refused to impersonated sessions and to applications.")
    return " ".join(said)


def _own(method: MethodDescriptor, access: Any) -> str:
    if not access.own_field:
        return ""
    return f", or for callers whose own id is `{json_path(method.input_type, access.own_field)}`"


def _end(contract: Contract, method: MethodDescriptor) -> str:
    edge = contract.option(method, f"{OPTIONS}.edge")
    return f"May be gone after {edge.sunset}." if edge is not None and edge.sunset else ""


def _answer(schemas: Schemas, method: MethodDescriptor, binding: Binding) -> dict[str, Any]:
    whole = method.output_type
    part = binding.response_body
    message: Descriptor | None = whole.fields_by_name[part].message_type if part else whole
    if message is None or is_http_body(message):
        return {"description": "The content itself, in its own media type.", "content": {"*/*": {}}}
    held = {"schema": schemas.reference(message)}
    if method.server_streaming:
        return {"description": "One message a line, or an event.", "content": {NDJSON: held, EVENTS: held}}
    return {"description": "OK", "content": {MEDIA: held}}
