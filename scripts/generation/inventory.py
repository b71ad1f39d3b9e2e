"""What the contract says of access, repetition, REST and personal data, in one list."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.json_format import MessageToDict

from generation.contract import Contract
from generation.rest import bindings

OPTIONS = "weft.options.v1"
MARKS = ("personal", "secret")


def write(contract: Contract, path: Path) -> None:
    listing = {"methods": methods(contract), "fields": marked(contract), "events": events(contract)}
    path.write_text(json.dumps(listing, indent=2, ensure_ascii=False) + "\n")


def methods(contract: Contract) -> dict[str, Any]:
    """Every method by its full name."""
    return {method.full_name: _method(contract, method) for method in contract.methods}


def marked(contract: Contract) -> dict[str, dict[str, list[str]]]:
    """Fields that hold personal data or secrets, by message."""
    found: dict[str, dict[str, list[str]]] = {}
    for message in contract.messages:
        for field in message.fields:
            marks = [mark for mark in MARKS if contract.option(field, f"{OPTIONS}.{mark}")]
            if marks:
                found.setdefault(message.full_name, {})[field.name] = marks
    return found


def events(contract: Contract) -> dict[str, Any]:
    """Every event with the fields that order it and that name its person."""
    said = {message.full_name: contract.option(message, f"{OPTIONS}.event") for message in contract.messages}
    return {name: _plain(event) for name, event in said.items() if event is not None}


def _method(contract: Contract, method: MethodDescriptor) -> dict[str, Any]:
    options = contract.options(method)
    levels = options.DESCRIPTOR.fields_by_name["idempotency_level"].enum_type.values_by_number
    found: dict[str, Any] = {
        "access": _plain(contract.option(method, f"{OPTIONS}.access")),
        "idempotency": levels[options.idempotency_level].name,
        "rest": [f"{binding.verb.upper()} {binding.path}" for binding in bindings(contract, method)],
    }
    edge = contract.option(method, f"{OPTIONS}.edge")
    if edge is not None:
        found["edge"] = _plain(edge)
    if options.deprecated:
        found["deprecated"] = True
    return found


def _plain(message: Any) -> Any:
    return MessageToDict(message, preserving_proto_field_name=True)
