"""Refusals of a method by HTTP status: those its comment lists, and those its access brings."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from google.protobuf.descriptor import MethodDescriptor

from generation.contract import Contract
from generation.inventory import OPTIONS
from generation.openapi.texts import text

# As the edge translates them (google/rpc/code.proto).
HTTP = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ABORTED": 409,
    "ALREADY_EXISTS": 409,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "DATA_LOSS": 500,
    "INTERNAL": 500,
    "UNKNOWN": 500,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
MEDIA = "application/json"
STATUS = "google.rpc.Status"
# Any method's: the edge's own and the mesh's.
COMMON = "RESOURCE_EXHAUSTED (429), UNAVAILABLE (503), DEADLINE_EXCEEDED (504) and INTERNAL (500) are"
DEFAULT = f"Any other refusal. {COMMON} every method's."
# A detail is told by its @type; a client skips those it does not know.
DETAILS = ("ErrorInfo", "BadRequest", "RetryInfo", "QuotaFailure", "PreconditionFailure", "ResourceInfo")


def responses(contract: Contract, method: MethodDescriptor) -> dict[str, Any]:
    """What the method answers besides 200."""
    by_status: dict[int, dict[str, None]] = defaultdict(dict)
    for code, reason in (*_implied(contract, method), *text(contract.comment(method)).errors):
        by_status[HTTP.get(code, 500)][f"- {code} `{reason}`"] = None
    listed = {str(status): response("\n".join(lines)) for status, lines in sorted(by_status.items())}
    return listed | {"default": {"$ref": "#/components/responses/Refusal"}}


def response(description: str) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{STATUS}"}
    return {"description": description, "content": {MEDIA: {"schema": schema}}}


def status(schemas: Any, contract: Contract) -> None:
    """Makes the component of google.rpc.Status, whose details are the types that ours use."""
    schemas.reference(contract.message(STATUS))
    details = [_detail(schemas.reference(contract.message(f"google.rpc.{name}")), name) for name in DETAILS]
    unknown = {"type": "object", "properties": {"@type": {"type": "string"}}, "required": ["@type"]}
    found = schemas.components[STATUS]["properties"]["details"]
    found["items"] = {"anyOf": [*details, unknown]}


def _detail(reference: dict[str, Any], name: str) -> dict[str, Any]:
    kind = {"const": f"type.googleapis.com/google.rpc.{name}"}
    return {"allOf": [reference, {"type": "object", "properties": {"@type": kind}, "required": ["@type"]}]}


def _implied(contract: Contract, method: MethodDescriptor) -> list[tuple[str, str]]:
    access = contract.option(method, f"{OPTIONS}.access")
    found = [("UNAUTHENTICATED", "BAD_TOKEN")]
    if method.input_type.fields:
        found.append(("INVALID_ARGUMENT", "MALFORMED"))
    if not access.public:
        found.append(("UNAUTHENTICATED", "SIGN_IN_REQUIRED"))
    if access.permission:
        found.append(("PERMISSION_DENIED", "NOT_PERMITTED"))
    if access.HasField("fresh"):
        found.append(("UNAUTHENTICATED", "STEP_UP_REQUIRED"))
    if access.in_person:
        found += [("PERMISSION_DENIED", "IMPERSONATION_REFUSED"), ("PERMISSION_DENIED", "PERSON_REQUIRED")]
    return found
