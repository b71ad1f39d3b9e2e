"""Expressions of workflows, in CEL: bounded when they are written, evaluated over JSON.

One comprehension at a time, no functions but the standard ones, and so many names and literals: nobody's
expression takes longer than a few milliseconds.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import celpy
from celpy.adapter import CELJSONEncoder, json_to_cel
from celpy.celparser import CELParseError
from lark import Token, Tree

from services.chassis.errors import InvalidArgument

LEAVES_MAX = 120  # Names and literals of an expression: about 5 us each to evaluate.
DEPTH_MAX = 260  # Of the syntax tree, which has about 13 levels for each bracket.
ITEMS_MAX = 5_000  # Of what an expression may run over, and of what it may make.
PROGRAMS_CACHED_MAX = 500  # Compiled expressions a process keeps, 20 kB each.
MACROS = frozenset({"all", "exists", "exists_one", "filter", "map"})
TIMES = ("Date", "DayOfMonth", "DayOfWeek", "DayOfYear", "FullYear", "Hours", "Minutes", "Month", "Seconds")
METHODS = frozenset({"contains", "endsWith", "size", "startsWith", *(f"get{part}" for part in TIMES)})
FUNCTIONS = frozenset({"bool", "double", "duration", "has", "int", "size", "string", "timestamp"})


class ExpressionRefused(InvalidArgument):
    """The expression breaks the rule {rule}."""


class EvaluationFailed(Exception):
    """An expression has no value over what it was given."""


@dataclass(frozen=True)
class Checked:
    """An expression that may be kept, and what it refers to."""

    names: frozenset[str]  # Such as `input`, `tasks`.
    paths: frozenset[tuple[str, ...]]  # Chains of fields from a name on, the longest of each.


def check(text: str, names: Iterable[str], field: str) -> Checked:
    """Raises ExpressionRefused for what is no expression, may take long, or names what is not there."""
    tree = _parsed(text, field)
    depth, leaves = _measured(tree)
    if depth > DEPTH_MAX or leaves > LEAVES_MAX:
        raise ExpressionRefused(rule="size", field=field)
    bound = _variables(tree)
    known = frozenset(names)
    for node in tree.iter_subtrees():
        if rule := _rule(node, known | bound):
            raise ExpressionRefused(rule=rule, field=field)
    paths = {path for node in tree.iter_subtrees() if (path := _chain(node)) and path[0] not in bound}
    longest = {
        path for path in paths if not any(len(p) > len(path) and p[: len(path)] == path for p in paths)
    }
    return Checked(frozenset(path[0] for path in longest), frozenset(longest))


def evaluate(text: str, values: Mapping[str, Any]) -> Any:
    """The value over JSON `values`, as JSON. Raises EvaluationFailed."""
    try:
        result = _program(text).evaluate({name: json_to_cel(value) for name, value in values.items()})
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
    waiting, count = [value], 0
    while waiting and count <= ITEMS_MAX:
        each = waiting.pop()
        count += 1
        waiting += each.values() if isinstance(each, dict) else each if isinstance(each, list) else ()
    return count


@cache
def _environment() -> celpy.Environment:
    """Made when the first expression is read: its grammar takes 0.4 s."""
    return celpy.Environment()


@lru_cache(maxsize=PROGRAMS_CACHED_MAX)
def _program(text: str) -> Any:
    return _environment().program(_environment().compile(text))


def _parsed(text: str, field: str) -> Any:
    try:
        return _environment().compile(text)
    except (CELParseError, RecursionError):
        raise ExpressionRefused(rule="syntax", field=field) from None


def _measured(tree: Any) -> tuple[int, int]:
    """Depth and leaves, without recursion: the tree may be deep."""
    deepest, leaves, waiting = 0, 0, [(tree, 1)]
    while waiting:
        node, depth = waiting.pop()
        deepest = max(deepest, depth)
        leaves += sum(not isinstance(child, Tree) for child in node.children)
        waiting += [(child, depth + 1) for child in node.children if isinstance(child, Tree)]
    return deepest, leaves


def _rule(node: Any, names: frozenset[str]) -> str:
    """The rule that one node breaks."""
    first = str(node.children[0]) if node.children and isinstance(node.children[0], Token) else ""
    match str(node.data):
        case "ident":
            return "" if first in names else "names"
        case "dot_ident" | "dot_ident_arg" | "member_object":
            return "names"
        case "ident_arg":
            return "" if first in FUNCTIONS else "functions"
        case "member_dot_arg":
            return _method_rule(node)
    return ""


def _method_rule(node: Any) -> str:
    name = str(node.children[1])
    if name not in MACROS:
        return "" if name in METHODS else "functions"
    inside = [
        each for child in node.children[2:] if isinstance(child, Tree) for each in child.iter_subtrees()
    ]
    return "one_comprehension" if any(_is_macro(each) for each in inside) else ""


def _variables(tree: Any) -> frozenset[str]:
    """Names that comprehensions bind: the first argument of each."""
    bound = set()
    for node in tree.iter_subtrees():
        if _is_macro(node) and len(node.children) > 2:
            idents = [each for each in node.children[2].children[0].iter_subtrees() if each.data == "ident"]
            bound |= {str(each.children[0]) for each in idents[:1]}
    return frozenset(bound)


def _is_macro(node: Any) -> bool:
    return str(node.data) == "member_dot_arg" and str(node.children[1]) in MACROS


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
