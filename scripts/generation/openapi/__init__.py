"""The REST side of the mesh as OpenAPI 3.1, as the edge serves it: verbs, limits, refusals, streams."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from generation.contract import Contract
from generation.openapi.operations import operations
from generation.openapi.refusals import DEFAULT, response, status
from generation.openapi.schemas import Schemas

DESCRIPTION = """\
The mesh over HTTP and JSON. Names are camelCase; 64-bit integers, timestamps and durations are strings;
a field with its default value may be absent from an answer.

Refusals are `google.rpc.Status`. Go by the `reason` of its `google.rpc.ErrorInfo`, not by the message.
Streams come as NDJSON, one message a line, or as server-sent events to who accepts `text/event-stream`.
"""
LICENSE = {"name": "Apache 2.0", "identifier": "Apache-2.0"}
SECURITY = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "An access token, as a sign-in answers it.",
    },
    "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "A machine's key."},
}
IDEMPOTENCY_KEY = {
    "name": "idempotency-key",
    "in": "header",
    "description": "A repeat with the same key and body gets the first answer again and has no effect.",
    "schema": {"type": "string", "maxLength": 255},
}


def write(contract: Contract, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document(contract), indent=1, ensure_ascii=False) + "\n")


def document(contract: Contract) -> dict[str, Any]:
    schemas = Schemas(contract)
    paths = operations(contract, schemas)
    status(schemas, contract)
    used = {tag for path in paths.values() for operation in path.values() for tag in operation["tags"]}
    tagged = {service.full_name: service for service in contract.services if service.full_name in used}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Weft", "version": "v1", "description": DESCRIPTION, "license": LICENSE},
        "servers": [{"url": "/"}],
        "security": [{name: []} for name in SECURITY],
        "tags": [{"name": name, "description": contract.comment(it)} for name, it in sorted(tagged.items())],
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": dict(sorted(schemas.components.items())),
            "responses": {"Refusal": response(DEFAULT)},
            "parameters": {"IdempotencyKey": IDEMPOTENCY_KEY},
            "securitySchemes": SECURITY,
        },
    }
