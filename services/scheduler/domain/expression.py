"""Expressions of workflows, in CEL: bounded as the chassis' conditions are, from JSON to any JSON."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from celpy.adapter import CELJSONEncoder
from lark import Tree

from services.chassis.conditions import broken_rule, environment, known, program
from services.chassis.errors import InvalidArgument

ITEMS_MAX = 10_000  # Of what an expression runs over, at about 40 us each, and of what it makes.


class ExpressionRefused(InvalidArgument):
    """The expression breaks the rule {rule}."""


class EvaluationFailed(Exception):
    """An expression has no value over what it was given."""


def check(text: str, names: Iterable[str], field: str) -> frozenset[tuple[str, ...]]:
    """The chains of fields that it asks for, from one of `names` on, the longest of each.

    Raises ExpressionRefused for what is no expression, may take long, or names what is not there.
    """
    rule = broken_rule(text, frozenset(names), {})
    if rule not in ("", "bool"):  # It may be of any type.
        raise ExpressionRefused(rule=rule, field=field)
    nodes = environment().compile(text).iter_subtrees()
    paths = {path for node in nodes if (path := _chain(node)) and path[0] in names}
    return frozenset(
        path for path in paths if not any(len(p) > len(path) and p[: len(path)] == path for p in paths)
    )


def evaluate(text: str, values: Mapping[str, Any]) -> Any:
    """The value over JSON `values`, as JSON. Raises EvaluationFailed."""
    if _items(values) > ITEMS_MAX:
        raise EvaluationFailed(f"it would run over more than {ITEMS_MAX} items")
    try:
        result = program(text).evaluate(known(values))
        made = json.loads(json.dumps(result, cls=CELJSONEncoder))
    except Exception as error:  # Whatever an interpreter of somebody's expression raises, it is no value.
        raise EvaluationFailed(f"{type(error).__name__}: {error}"[:500]) from error
    if _items(made) > ITEMS_MAX:
        raise EvaluationFailed(f"it has more than {ITEMS_MAX} items")
    return made


def holds(text: str, values: Mapping[str, Any]) -> bool:
    """Whether a condition is true; an empty one is. Raises EvaluationFailed, also for what is no bool."""
    if not text:
        return True
    made = evaluate(text, values)
    if not isinstance(made, bool):
        raise EvaluationFailed("it is neither true nor false")
    return made


def mapped(expressions: Mapping[str, str], values: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object, a field an expression. Raises EvaluationFailed that names the field."""
    made = {}
    for name, text in expressions.items():
        try:
            made[name] = evaluate(text, values)
        except EvaluationFailed as error:
            raise EvaluationFailed(f"{name}: {error}") from error
    return made


def plain(value: Any) -> Any:
    """JSON numbers of a protobuf Struct as people wrote them: whole ones are ints."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [plain(each) for each in value]
    return value


def _items(value: Any) -> int:
    waiting, count = [value], 0  # Without recursion: it may be deep.
    while waiting and count <= ITEMS_MAX:
        each = waiting.pop()
        count += 1
        waiting += each.values() if isinstance(each, dict) else each if isinstance(each, list) else ()
    return count


def _chain(node: Any) -> tuple[str, ...]:
    """`a.b.c` as its names; empty for anything else."""
    while isinstance(node, Tree) and len(node.children) == 1 and str(node.data) != "ident":
        node = node.children[0]
    if not isinstance(node, Tree):
        return ()
    if str(node.data) == "ident":
        return (str(node.children[0]),)
    if str(node.data) == "member_dot":
        before = _chain(node.children[0])
        return (*before, str(node.children[1])) if before else ()
    return ()
