"""Attribute rules: their conditions in CEL, bounded when they are written, and how they decide."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Mapped, mapped_column

from services.chassis.conditions import Known, broken_rule, holds, known
from services.chassis.errors import FailedPrecondition, InvalidArgument, NotFound
from services.identity.domain.row import Row
from services.identity.domain.token import covers

ALLOW, DENY = "allow", "deny"
POLICIES_MAX = 200  # All of them are in each process; a check evaluates those that name its permission.
RESOURCE_BYTES_MAX, ITEMS_MAX = 16_384, 2_000  # Of what a condition may run over.
# What conditions may ask for, with values by which the type of one is told.
SAMPLE = {
    "subject": {"id": "", "kind": "user", "roles": [], "acting": "", "client": "", "scope": []},
    "resource": {},
    "request": {"ip": "", "time": datetime.fromisoformat("2026-01-01T00:00:00+00:00")},
}


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
    if rule := broken_rule(condition, frozenset(SAMPLE), SAMPLE):
        raise ConditionRefused(field="condition", rule=rule)


def decide(policies: Sequence[Policy], question: Question) -> Verdict:
    """A deny that holds, or cannot be evaluated, wins; then the subject's own permissions; then an allow."""
    about = [p for p in policies if not p.disabled and covers({p.permission}, question.permission)]
    facts = _facts(question) if about else {}
    for policy in (p for p in about if p.effect == DENY):
        held = holds(policy.condition, facts)
        if held is not False:
            return Verdict("denied" if held else "denied_unevaluated", str(policy.policy_id))
    if covers(question.scope, question.permission):
        return Verdict("permission")
    for policy in (p for p in about if p.effect == ALLOW):
        if holds(policy.condition, facts):
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


def _facts(question: Question) -> Known:
    return known(
        {
            "subject": {**question.subject, "scope": sorted(question.scope)},
            "resource": dict(question.resource),
            "request": {"ip": question.ip, "time": question.time},
        }
    )
