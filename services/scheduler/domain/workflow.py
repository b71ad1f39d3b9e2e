"""Workflows: graphs of tasks, and what makes a graph one that can run."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Mapped, mapped_column

from services.chassis.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from services.scheduler.domain import expression
from services.scheduler.domain.expression import EvaluationFailed
from services.scheduler.domain.row import Row

OWN_EVENTS = "weft.scheduler."  # A workflow that its own end starts would never end.


class UnknownWorkflow(NotFound):
    """There is no workflow {workflow_id}, or not this version of it."""


class WorkflowIdReused(AlreadyExists):
    """Workflow {workflow_id} was made with other settings."""


class WorkflowInUse(FailedPrecondition):
    """{schedules} schedules and {runs} runs that have not ended use the workflow {workflow_id}."""


class WorkflowRefused(InvalidArgument):
    """The workflow breaks a rule: {problem}."""


class InputRefused(InvalidArgument):
    """The input breaks a rule: {problem}."""


class Rule(StrEnum):
    """When a task that waits for others starts."""

    ALL_SUCCEEDED = "ALL_SUCCEEDED"
    ANY_SUCCEEDED = "ANY_SUCCEEDED"
    ANY_FAILED = "ANY_FAILED"
    ALL_ENDED = "ALL_ENDED"


HANDLING = (Rule.ANY_FAILED, Rule.ALL_ENDED)


class Kind(StrEnum):
    """What kind of JSON a value is."""

    ANY = "ANY"
    STRING = "STRING"
    NUMBER = "NUMBER"
    BOOL = "BOOL"
    OBJECT = "OBJECT"
    LIST = "LIST"

    def fits(self, value: Any) -> bool:
        if self is Kind.NUMBER:
            return isinstance(value, int | float) and not isinstance(value, bool)
        types = {Kind.ANY: object, Kind.STRING: str, Kind.BOOL: bool, Kind.OBJECT: dict, Kind.LIST: list}
        return isinstance(value, types[self])


Path = tuple[str, ...]  # Of fields, such as `tasks`, `reserve`, `output`.
SEEN = ("input", "run", "tasks")  # What expressions of a run see.
SAMPLES: Mapping[Kind, Any] = {Kind.STRING: "a", Kind.NUMBER: 1, Kind.BOOL: True}


class Workflow(Row):
    """A workflow."""

    __tablename__ = "workflow"
    workflow_id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    version: Mapped[int]  # The newest.
    created_at: Mapped[datetime]


class WorkflowVersion(Row):
    """What a workflow was at a time; never changes."""

    __tablename__ = "workflow_version"
    workflow_id: Mapped[UUID] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    settings: Mapped[bytes]
    created_at: Mapped[datetime]


class WorkflowTrigger(Row):
    """An event that starts the newest version."""

    __tablename__ = "workflow_trigger"
    workflow_id: Mapped[UUID] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    event_type: Mapped[str]
    since_at: Mapped[datetime]  # Earlier events are none of its.


@dataclass(frozen=True, kw_only=True)
class Work:
    """A job of a task: a serialized template, and its payload."""

    job: bytes
    inputs: Mapping[str, str] = field(default_factory=dict)
    fixed: bool = False  # The template has a payload of its own.


@dataclass(frozen=True, kw_only=True)
class Task:
    """A job, and what it waits for."""

    name: str
    work: Work
    job_type: str = ""
    needs: Sequence[str] = ()
    rule: Rule = Rule.ALL_SUCCEEDED
    condition: str = ""
    outputs: Mapping[str, Kind] = field(default_factory=dict)
    timeout: timedelta | None = None
    undo: Work | None = None


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """An event that starts a run."""

    event_type: str
    filter: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Definition:
    """A graph of tasks."""

    tasks: Sequence[Task]
    inputs: Mapping[str, tuple[Kind, bool]] = field(default_factory=dict)  # Kind, and whether required.
    timeout: timedelta = timedelta(days=30)
    triggers: Sequence[Trigger] = ()

    @cached_property
    def by_name(self) -> Mapping[str, Task]:
        return {task.name: task for task in self.tasks}

    @cached_property
    def order(self) -> Sequence[Task]:
        """Each task behind those that it needs. Raises WorkflowRefused for a cycle."""
        graph = TopologicalSorter({task.name: list(task.needs) for task in self.tasks})
        try:
            return [self.by_name[name] for name in graph.static_order()]
        except CycleError as error:
            raise WorkflowRefused(
                problem=f"{' -> '.join(error.args[1])} is a cycle", field="settings.tasks"
            ) from None

    @cached_property
    def handled(self) -> frozenset[str]:
        """Tasks whose failure another one waits for."""
        return frozenset(name for task in self.tasks if task.rule in HANDLING for name in task.needs)

    @cached_property
    def levels(self) -> Mapping[str, int]:
        """How far each task is from the start."""
        levels: dict[str, int] = {}
        for task in self.order:
            levels[task.name] = 1 + max((levels[name] for name in task.needs), default=-1)
        return levels

    def before(self, name: str) -> frozenset[str]:
        """Tasks that have ended when this one starts, or may have: its needs, and theirs."""
        found: set[str] = set()
        waiting = list(self.by_name[name].needs)
        while waiting:
            each = waiting.pop()
            if each not in found:
                found.add(each)
                waiting += self.by_name[each].needs
        return frozenset(found)

    def check(self) -> None:
        """Raises WorkflowRefused, ExpressionRefused."""
        self._check_names()
        assert self.order
        for n, task in enumerate(self.tasks):
            self._check_task(task, f"settings.tasks[{n}]")
        for n, trigger in enumerate(self.triggers):
            at = f"settings.triggers[{n}]"
            if trigger.event_type.startswith(OWN_EVENTS):
                raise WorkflowRefused(problem="it would start itself", field=f"{at}.event_type")
            for where, text in _each(trigger.filter, trigger.inputs, at, "filter"):
                expression.check(text, ("event", "envelope"), where)

    def _check_names(self) -> None:
        seen: set[str] = set()
        for n, task in enumerate(self.tasks):
            if task.name in seen:
                raise WorkflowRefused(problem=f"{task.name} stands twice", field=f"settings.tasks[{n}].name")
            seen.add(task.name)
        for n, task in enumerate(self.tasks):
            if unknown := set(task.needs) - seen:
                problem = f"there is no task {min(unknown)}"
                raise WorkflowRefused(problem=problem, field=f"settings.tasks[{n}].needs")

    def _check_task(self, task: Task, at: str) -> None:
        if task.rule is not Rule.ALL_SUCCEEDED and not task.needs:
            raise WorkflowRefused(problem=f"{task.rule} needs tasks to wait for", field=f"{at}.when")
        if task.work.fixed and task.work.inputs:
            raise WorkflowRefused(problem="inputs and a payload exclude each other", field=f"{at}.inputs")
        before = self.before(task.name)
        for where, text in _each(task.condition, task.work.inputs, at, "condition"):
            self._check_references(expression.check(text, SEEN, where), before, where)
            self._check_types(text, where, condition=where.endswith("condition"))
        if task.undo:
            for where, text in _each("", task.undo.inputs, f"{at}.compensation", ""):
                seen = before | {task.name}
                self._check_references(expression.check(text, SEEN, where), seen, where)

    def _check_references(self, paths: Iterable[Path], before: frozenset[str], where: str) -> None:
        for path in paths:
            if path[0] == "input" and len(path) > 1 and path[1] not in self.inputs:
                raise WorkflowRefused(problem=f"there is no input {path[1]}", field=where)
            if path[0] == "tasks":
                self._check_task_path(path, before, where)

    def _check_task_path(self, path: Sequence[str], before: frozenset[str], where: str) -> None:
        if len(path) < 3 or path[2] not in ("output", "state"):
            problem = "it is written tasks.<name>.output or tasks.<name>.state"
            raise WorkflowRefused(problem=problem, field=where)
        if path[1] not in before:
            problem = f"the task {path[1]} does not come before this one"
            raise WorkflowRefused(problem=problem, field=where)
        outputs = self.by_name[path[1]].outputs
        if path[2] == "output" and len(path) > 3 and outputs and path[3] not in outputs:
            raise WorkflowRefused(problem=f"{path[1]} has no output {path[3]}", field=where)

    def _check_types(self, text: str, where: str, *, condition: bool) -> None:
        """Tries it on samples, if all it uses has a known kind."""
        values: dict[str, Any] = {
            "run": {"id": "", "workflow_id": "", "version": 1},
            "input": {},
            "tasks": {},
        }
        for path in expression.check(text, SEEN, where):
            kind, at = self._kind(path)
            if kind is None:
                continue
            if kind not in SAMPLES:
                return
            _put(values, at, SAMPLES[kind])
        try:
            made = expression.evaluate(text, values)
        except EvaluationFailed as error:
            if "overload" in str(error):
                raise WorkflowRefused(problem="the types of its parts do not fit", field=where) from None
            return
        if condition and not isinstance(made, bool):
            raise WorkflowRefused(problem="a condition is true or false", field=where)

    def _kind(self, path: Sequence[str]) -> tuple[Kind | None, Sequence[str]]:
        """The kind of what a path leads to, and where that stands. None: it is always there."""
        if path[0] == "input":
            return (self.inputs[path[1]][0] if len(path) == 2 else Kind.ANY), path[:2]
        if path[0] == "tasks" and path[2] == "output":
            outputs = self.by_name[path[1]].outputs
            return (outputs.get(path[3], Kind.ANY) if len(path) == 4 else Kind.ANY), path[:4]
        return (Kind.STRING, path[:3]) if path[0] == "tasks" else (None, path)

    def accept(self, given: Mapping[str, Any]) -> None:
        """Raises InputRefused."""
        for name in given:
            if name not in self.inputs:
                raise InputRefused(problem=f"there is no input {name}", field=f"input.{name}")
        for name, (kind, required) in sorted(self.inputs.items()):
            if name not in given:
                if required:
                    raise InputRefused(problem=f"{name} is required", field=f"input.{name}")
            elif not kind.fits(given[name]):
                raise InputRefused(problem=f"{name} is no {kind.lower()}", field=f"input.{name}")


def _each(one: str, many: Mapping[str, str], at: str, name: str) -> Iterator[tuple[str, str]]:
    """Expressions, each with the field that it stands in."""
    if one:
        yield f"{at}.{name}", one
    for key, text in many.items():
        yield f"{at}.inputs[{key}]", text


def _put(values: dict[str, Any], path: Sequence[str], value: Any) -> None:
    *parents, last = path
    for parent in parents:
        values = values.setdefault(parent, {})
    values[last] = value
