"""Conditions that people write, in CEL: bounded when they are written, so that they are cheap when they run.

A condition has names to ask for, no `matches`, no functions of its own, and no comprehension in another.
"""

from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from typing import Any

import celpy
from celpy import celtypes
from celpy.adapter import json_to_cel
from celpy.celparser import CELParseError
from lark import Token, Tree

LEAVES_MAX = 120  # Names and literals of a condition: about 5 us each to evaluate.
DEPTH_MAX = 260  # Of the syntax tree, which has about 13 levels for each bracket.
PROGRAMS_CACHED_MAX = 500  # Compiled conditions a process keeps, 20 kB each.
MACROS = frozenset({"all", "exists", "exists_one", "filter", "map"})
TIMES = ("Date", "DayOfMonth", "DayOfWeek", "DayOfYear", "FullYear", "Hours", "Minutes", "Month", "Seconds")
METHODS = frozenset({"contains", "endsWith", "size", "startsWith", *(f"get{part}" for part in TIMES)})
FUNCTIONS = frozenset({"bool", "double", "duration", "has", "int", "size", "string", "timestamp"})

Known = dict[str, Any]


def broken_rule(condition: str, names: frozenset[str], sample: Mapping[str, Any]) -> str:
    """The rule that the condition breaks, in a word; empty when it may be used.

    `names` are the variables it may ask for, `sample` values of theirs by which its type is told.
    """
    try:
        tree = environment().compile(condition)
    except (CELParseError, RecursionError):
        return "syntax"
    depth, leaves = _measured(tree)
    if depth > DEPTH_MAX or leaves > LEAVES_MAX:
        return "depth" if depth > DEPTH_MAX else "size"
    may_ask = names | _variables(tree)
    for node in tree.iter_subtrees():
        if rule := _rule(node, may_ask):
            return rule
    result = _evaluated(condition, known(sample))
    return "" if result is None or isinstance(result, celtypes.BoolType) else "bool"


def known(facts: Mapping[str, Any]) -> Known:
    """Facts as conditions read them: converted once, however many conditions there are."""
    return {name: json_to_cel(value) for name, value in facts.items()}


def holds(condition: str, facts: Known) -> bool | None:
    """None: it cannot be evaluated, for what it asks for is missing or of another kind."""
    result = _evaluated(condition, facts)
    return bool(result) if isinstance(result, celtypes.BoolType) else None


@cache
def environment() -> celpy.Environment:
    """Made when the first condition is read: its grammar takes 0.4 s, and most starts need none."""
    return celpy.Environment()


@lru_cache(maxsize=PROGRAMS_CACHED_MAX)
def program(condition: str) -> Any:
    """Compiled once."""
    return environment().program(environment().compile(condition))


def _evaluated(condition: str, facts: Known) -> Any:
    try:
        return program(condition).evaluate(dict(facts))
    except Exception:  # Whatever an interpreter of somebody's expression raises, it is no answer.
        return None


def _measured(tree: Any) -> tuple[int, int]:
    """Depth and leaves, without recursion: the tree may be deep."""
    deepest, leaves, waiting = 0, 0, [(tree, 1)]
    while waiting:
        node, depth = waiting.pop()
        deepest = max(deepest, depth)
        leaves += sum(not isinstance(child, Tree) for child in node.children)
        waiting += [(child, depth + 1) for child in node.children if isinstance(child, Tree)]
    return deepest, leaves


def _rule(node: Any, known: frozenset[str]) -> str:
    """The rule that one node breaks."""
    first = str(node.children[0]) if node.children and isinstance(node.children[0], Token) else ""
    match str(node.data):
        case "ident":
            return "" if first in known else "names"
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
    inside = _subtrees(node.children[2:])
    return "one_comprehension" if any(_is_macro(each) for each in inside) else ""


def _variables(tree: Any) -> frozenset[str]:
    """Names that comprehensions bind: the first argument of each."""
    bound = set()
    for node in tree.iter_subtrees():
        if _is_macro(node) and len(node.children) > 2:
            first = node.children[2].children[0]
            idents = [each for each in first.iter_subtrees() if str(each.data) == "ident"]
            bound |= {str(each.children[0]) for each in idents[:1]}
    return frozenset(bound)


def _is_macro(node: Any) -> bool:
    return str(node.data) == "member_dot_arg" and str(node.children[1]) in MACROS


def _subtrees(nodes: Iterable[Any]) -> list[Any]:
    return [each for node in nodes if isinstance(node, Tree) for each in node.iter_subtrees()]
