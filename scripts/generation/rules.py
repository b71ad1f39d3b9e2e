"""What a contract may not say, though protoc would let it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor

from generation.contract import Contract
from generation.inventory import MARKS, OPTIONS
from generation.protoc import Refused
from generation.rest import bindings, field_at

NESTING_MAX = 8  # Where the search for marked fields ends in a message that holds itself.
EVERY_SERVICE = "*"  # Among `callers`.
NO_SIDE_EFFECTS = 1  # google.protobuf.MethodOptions.IdempotencyLevel


def check(contract: Contract) -> None:
    """Raises Refused with one line for each broken rule."""
    broken = [*_methods(contract), *_routes(contract), *_events(contract)]
    if broken:
        raise Refused("\n".join(["the protos break rules of generation:", *(f"  {line}" for line in broken)]))


def _methods(contract: Contract) -> Iterator[str]:
    for method in contract.methods:
        access = contract.option(method, f"{OPTIONS}.access")
        edge = contract.option(method, f"{OPTIONS}.edge")
        for line in (*_access(contract, method, access), *_edge(contract, method, access, edge)):
            yield f"{method.full_name}: {line}"


def _access(contract: Contract, method: MethodDescriptor, access: Any) -> Iterator[str]:
    rule = access.WhichOneof("rule") if access is not None else None
    if rule is None or not getattr(access, rule):
        yield f"no rule of access; set option ({OPTIONS}.access)"
        return
    if rule == "internal" and bindings(contract, method):
        yield "internal, yet it has a REST route; the edge would open it to everyone"
    yield from _callers(contract, rule, access.callers)
    if not access.own_field:
        return
    if rule != "permission":
        yield f"own_field stands beside `{rule}`; it is an exception from `permission` only"
    field = method.input_type.fields_by_name.get(access.own_field)
    if field is None or not _is_text(field):
        yield f"own_field {access.own_field!r} is no string field of {method.input_type.full_name}"


def _callers(contract: Contract, rule: str, callers: Sequence[str]) -> Iterator[str]:
    if rule == "internal" and not callers:
        yield f"internal, yet no callers; name the services that call it, or {EVERY_SERVICE!r}"
    if rule == "public" and callers:
        yield "public, yet it has callers; everyone may call it"
    if EVERY_SERVICE in callers and len(callers) > 1:
        yield f"callers has {EVERY_SERVICE!r} beside others; it stands for all of them"
    known = {service.file.package.split(".")[1] for service in contract.services}
    for name in sorted(set(callers) - known - {EVERY_SERVICE}):
        yield f"callers has {name!r}, which is no service"


def _edge(contract: Contract, method: MethodDescriptor, access: Any, edge: Any) -> Iterator[str]:
    if edge is None:
        return
    options = contract.options(method)
    if edge.HasField("cache"):
        if access is None or not access.public:
            yield "cached at the edge, yet not public; one caller would see another's answer"
        if options.idempotency_level != NO_SIDE_EFFECTS:
            yield "cached at the edge, yet not NO_SIDE_EFFECTS"
    yield from _end(options, edge)


def _end(options: Any, edge: Any) -> Iterator[str]:
    if edge.sunset and not options.deprecated:
        yield "sunset without `option deprecated = true`"
    if edge.deprecated_since and not edge.sunset:
        yield "deprecated_since without sunset"
    for name in ("sunset", "deprecated_since"):
        value = getattr(edge, name)
        if value and not _is_date(value):
            yield f"{name} {value!r} is no date such as 2027-01-31"


def _routes(contract: Contract) -> Iterator[str]:
    taken: dict[str, str] = {}
    for method in contract.methods:
        for binding in bindings(contract, method):
            other = taken.setdefault(binding.shape, method.full_name)
            if other != method.full_name:
                yield f"{method.full_name}: {binding.verb.upper()} {binding.path} is {other}'s route already"
            named = [*binding.variables, *([binding.body] if binding.body not in ("", "*") else [])]
            for name in named:
                if field_at(contract, method, name) is None:
                    yield f"{method.full_name}: the route names {name!r}, no field of its request"


def _events(contract: Contract) -> Iterator[str]:
    for message in contract.messages:
        event = contract.option(message, f"{OPTIONS}.event")
        listed = message.file.name.endswith("/events.proto") and message.containing_type is None
        if event is None and listed:
            yield f"{message.full_name}: in an events.proto without option ({OPTIONS}.event)"
        if event is not None:
            yield from (f"{message.full_name}: {line}" for line in _named(message, event))
        if event is not None or listed:
            for path, mark in _marked(contract, message, ""):
                yield f"{message.full_name}: {path} is {mark}; events carry ids"


def _named(message: Descriptor, event: Any) -> Iterator[str]:
    if not event.key:
        yield "the event has no key"
    for role in ("key", "subject"):
        name = getattr(event, role)
        field = message.fields_by_name.get(name)
        if name and (field is None or not _is_text(field)):
            yield f"the event's {role} {name!r} is none of its string fields"


def _marked(
    contract: Contract, message: Descriptor, prefix: str, depth: int = NESTING_MAX
) -> Iterator[tuple[str, str]]:
    """Paths and marks of the marked fields within."""
    for field in message.fields:
        for mark in MARKS:
            if contract.option(field, f"{OPTIONS}.{mark}"):
                yield prefix + field.name, mark
        if field.message_type and depth:
            yield from _marked(contract, field.message_type, f"{prefix}{field.name}.", depth - 1)


def _is_text(field: FieldDescriptor) -> bool:
    return field.type == FieldDescriptor.TYPE_STRING and not field.is_repeated


def _is_date(value: str) -> bool:
    try:
        return date.fromisoformat(value).isoformat() == value
    except ValueError:
        return False
