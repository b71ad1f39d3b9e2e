"""Attribute rules: their conditions in CEL, bounded when they are written, and how they decide."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache, lru_cache
from typing import Any
from uuid import UUID

import celpy
from celpy import celtypes
from celpy.adapter import json_to_cel
from celpy.celparser import CELParseError
from lark import Token, Tree
from sqlalchemy.orm import Mapped, mapped_column

from services.chassis.errors import FailedPrecondition, InvalidArgument, NotFound
from services.identity.domain.row import Row
from services.identity.domain.token import covers

ALLOW, DENY = "allow", "deny"
POLICIES_MAX = 200  # All of them are in each process; a check evaluates those that name its permission.
LEAVES_MAX = 120  # Names and literals of a condition: about 5 us each to evaluate.
DEPTH_MAX = 260  # Of the syntax tree, which has about 13 levels for each bracket.
PROGRAMS_CACHED_MAX = 500  # Compiled conditions a process keeps, 20 kB each.
RESOURCE_BYTES_MAX, ITEMS_MAX = 16_384, 2_000  # Of what a condition may run over.
NAMES = frozenset({"subject", "resource", "request"})
MACROS = frozenset({"all", "exists", "exists_one", "filter", "map"})
TIMES = ("Date", "DayOfMonth", "DayOfWeek", "DayOfYear", "FullYear", "Hours", "Minutes", "Month", "Seconds")
METHODS = frozenset({"contains", "endsWith", "size", "startsWith", *(f"get{part}" for part in TIMES)})
FUNCTIONS = frozenset({"bool", "double", "duration", "has", "int", "size", "string", "timestamp"})


class PolicyNotFound(NotFound):
    """There is no policy {policy_id}."""


class TooManyPolicies(FailedPrecondition):
    """There are {max} policies already."""


class ConditionRefused(InvalidArgument):
    """The condition breaks the rule {rule}."""


class ResourceRefused(InvalidArgument):
    """The resource is larger than conditions are run over."""


class Policy(Row):
    """An attribute rule."""

    __tablename__ = "policy"
    policy_id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    effect: Mapped[str]
    permission: Mapped[str]
    condition: Mapped[str]
    disabled: Mapped[bool]
    revision: Mapped[int]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]

    @property
    def etag(self) -> str:
        return f"{self.revision:x}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """May this subject do this to this resource, under these circumstances?"""

    permission: str
    subject: Mapping[str, Any]
    scope: frozenset[str]
    resource: Mapping[str, Any]
    ip: str
    time: datetime


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer, and what it rests on."""

    ground: str
    policy_id: str = ""

    @property
    def allowed(self) -> bool:
        return self.ground in ("permission", "allowed")


def check(condition: str) -> None:
    """Raises ConditionRefused for what is no condition, or may take long."""
    tree = _parsed(condition)
    depth, leaves = _measured(tree)
    if depth > DEPTH_MAX:
        raise ConditionRefused(field="condition", rule="depth")
    if leaves > LEAVES_MAX:
        raise ConditionRefused(field="condition", rule="size")
    variables = _variables(tree)
    for node in tree.iter_subtrees():
        if rule := _rule(node, variables):
            raise ConditionRefused(field="condition", rule=rule)
    if _sampled(condition) is False:
        raise ConditionRefused(field="condition", rule="bool")


def decide(policies: Sequence[Policy], question: Question) -> Verdict:
    """A deny that holds, or cannot be evaluated, wins; then the subject's own permissions; then an allow."""
    about = [p for p in policies if not p.disabled and covers({p.permission}, question.permission)]
    facts = _facts(question) if about else {}
    for policy in (p for p in about if p.effect == DENY):
        held = _holds(policy, facts)
        if held is not False:
            return Verdict("denied" if held else "denied_unevaluated", str(policy.policy_id))
    if covers(question.scope, question.permission):
        return Verdict("permission")
    for policy in (p for p in about if p.effect == ALLOW):
        if _holds(policy, facts):
            return Verdict("allowed", str(policy.policy_id))
    return Verdict("not_granted")


def plain(value: Any) -> Any:
    """A protobuf Struct's values as a condition expects them: whole numbers are ints.

    Raises ResourceRefused.
    """
    bound = _Bound()
    return bound.plain(value)


class _Bound:
    """Counts items while it converts."""

    def __init__(self) -> None:
        self._items = 0

    def plain(self, value: Any) -> Any:
        self._items += 1
        if self._items > ITEMS_MAX:
            raise ResourceRefused
        if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
            return int(value)
        if isinstance(value, dict):
            return {name: self.plain(each) for name, each in value.items()}
        if isinstance(value, list):
            return [self.plain(each) for each in value]
        return value


def _facts(question: Question) -> dict[str, Any]:
    subject = {**question.subject, "scope": sorted(question.scope)}
    request = json_to_cel({"ip": question.ip})
    assert isinstance(request, celtypes.MapType)
    request[celtypes.StringType("time")] = celtypes.TimestampType(question.time)
    return {
        "subject": json_to_cel(subject),
        "resource": json_to_cel(dict(question.resource)),
        "request": request,
    }


def _holds(policy: Policy, facts: Mapping[str, Any]) -> bool | None:
    """None: it cannot be evaluated, for an attribute is missing or of another kind."""
    try:
        result = _program(policy.condition).evaluate(dict(facts))
    except Exception:  # Whatever an interpreter of somebody's expression raises, it is no answer.
        return None
    return bool(result) if isinstance(result, celtypes.BoolType) else None


@cache
def environment() -> celpy.Environment:
    """Made when the first condition is read: its grammar takes 0.4 s, and most starts need none."""
    return celpy.Environment()


@lru_cache(maxsize=PROGRAMS_CACHED_MAX)
def _program(condition: str) -> Any:
    return environment().program(environment().compile(condition))


def _parsed(condition: str) -> Any:
    try:
        return environment().compile(condition)
    except (CELParseError, RecursionError):
        raise ConditionRefused(field="condition", rule="syntax") from None


def _measured(tree: Any) -> tuple[int, int]:
    """Depth and leaves, without recursion: the tree may be deep."""
    deepest, leaves, waiting = 0, 0, [(tree, 1)]
    while waiting:
        node, depth = waiting.pop()
        deepest = max(deepest, depth)
        leaves += sum(not isinstance(child, Tree) for child in node.children)
        waiting += [(child, depth + 1) for child in node.children if isinstance(child, Tree)]
    return deepest, leaves


def _rule(node: Any, variables: frozenset[str]) -> str:
    """The rule that one node breaks."""
    first = str(node.children[0]) if node.children and isinstance(node.children[0], Token) else ""
    match str(node.data):
        case "ident":
            return "" if first in NAMES | variables else "names"
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


def _sampled(condition: str) -> bool | None:
    """Whether the condition is of type bool, as far as a sample can tell. None: it cannot."""
    subject = {"id": "", "kind": "user", "roles": [], "acting": "", "client": ""}
    now = datetime.fromisoformat("2026-01-01T00:00:00+00:00")
    question = Question(permission="", subject=subject, scope=frozenset(), resource={}, ip="", time=now)
    try:
        result = _program(condition).evaluate(_facts(question))
    except Exception:  # As in _holds.
        return None
    return isinstance(result, celtypes.BoolType)
