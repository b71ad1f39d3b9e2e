"""REST routes of a method, from its google.api.http option."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor

from generation.contract import Contract

VARIABLE = re.compile(r"\{([^}=]+)(?:=([^}]*))?\}")


@dataclass(frozen=True)
class Binding:
    """One verb and path, and where the request's other fields go."""

    verb: str
    path: str
    body: str  # A field's name; `*` for all that the path does not hold; empty for none.
    response_body: str

    @property
    def variables(self) -> list[str]:
        """Paths of the fields that the route's path holds."""
        return [match[1] for match in VARIABLE.finditer(self.path)]

    @property
    def shape(self) -> str:
        """The same for two routes that no request can tell apart."""
        return f"{self.verb.upper()} " + VARIABLE.sub(lambda match: match[2] or "*", self.path)


def bindings(contract: Contract, method: MethodDescriptor) -> list[Binding]:
    rule = contract.option(method, "google.api.http")
    return [] if rule is None else [_binding(each) for each in (rule, *rule.additional_bindings)]


def field_at(contract: Contract, method: MethodDescriptor, path: str) -> FieldDescriptor | None:
    """The request's field called `user.user_id`; None if there is no such."""
    message: Descriptor | None = method.input_type
    field = None
    for name in path.split("."):
        field = message.fields_by_name.get(name) if message is not None else None
        if field is None:
            return None
        message = field.message_type
    return field


def _binding(rule: Any) -> Binding:
    verb = rule.WhichOneof("pattern")
    if verb == "custom":
        return Binding(rule.custom.kind.lower(), rule.custom.path, rule.body, rule.response_body)
    return Binding(verb, getattr(rule, verb), rule.body, rule.response_body)
