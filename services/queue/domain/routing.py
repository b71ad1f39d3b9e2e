"""Which queue a job goes to: the first rule whose condition holds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.chassis.conditions import broken_rule, holds, known
from services.chassis.errors import InvalidArgument

NAMES = frozenset({"job"})
SAMPLE = {
    "job": {
        "type": "a.b",
        "queue": "default",
        "priority": "MEDIUM",
        "key": "",
        "labels": {},
        "content_type": "",
        "metadata": {},
        "size": 0,
    }
}


class ConditionRefused(InvalidArgument):
    """The condition of rule {name} breaks the rule {rule}."""


class RouteToUnknownQueue(InvalidArgument):
    """Rule {name} names queue {queue}, which there is not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """weft.queue.v1.RoutingRule."""

    name: str
    condition: str
    disabled: bool = False
    queue: str = ""
    priority: int = 0
    delay_s: float = 0.0


def check(rules: Sequence[Rule], queues: frozenset[str]) -> None:
    """Raises ConditionRefused, RouteToUnknownQueue."""
    for number, rule in enumerate(rules):
        field = f"rules[{number}]"
        if rule.queue and rule.queue not in queues:
            raise RouteToUnknownQueue(name=rule.name, queue=rule.queue, field=f"{field}.queue")
        if broken := broken_rule(rule.condition, NAMES, SAMPLE):
            raise ConditionRefused(name=rule.name, rule=broken, field=f"{field}.condition")


def route(rules: Sequence[Rule], job: Mapping[str, Any]) -> Rule | None:
    """The rule that decides about a job with such facts; None: none does."""
    facts = known({"job": job})
    for rule in rules:
        if not rule.disabled and holds(rule.condition, facts):
            return rule
    return None
