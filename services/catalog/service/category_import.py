"""CategoryService.ImportCategories: a tree in any order of its rows."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from services.catalog.domain.refusals import (
    ImportRefused,
    UnknownCategory,
    UnknownProductType,
)
from services.catalog.service import tree as categories
from services.catalog.service.shared import Shared
from services.catalog.store import tree
from services.catalog.tallying import CREATED, UNCHANGED, UPDATED, Numbered, Outcome, Tally
from services.chassis.db import ATTEMPTS_MAX, AnyTx, Conflict
from services.chassis.errors import Refusal
from services.chassis.method import Call
from services.chassis.rpc import check
from weft.catalog.v1 import category_pb2 as pb

ROWS_MAX = 100  # Of one transaction, in which nobody else changes the tree.
WAITING_MAX = 20_000  # Rows whose parent has not come; each is some hundred bytes.


@dataclass(frozen=True, slots=True)
class Row:
    at: Numbered
    request: pb.CreateCategoryRequest


class CategoryImport:
    """One stream of rows."""

    def __init__(self, shared: Shared, tally: Tally) -> None:
        self._db, self.tally = shared.db, tally
        self._ready: list[Row] = []
        self._waiting: dict[str, list[Row]] = {}  # By the parent that they wait for.
        self._waits = 0

    async def take(self, number: int, row: pb.CategoryRow) -> None:
        at = Numbered(number, 0, row.category_id[:64].replace("\0", ""))
        request = pb.CreateCategoryRequest(
            category_id=row.category_id, parent_id=row.parent_id, content=row.content
        )
        try:
            check(request)
        except Refusal as refusal:
            await self._keep([(at, refusal)])
            return
        request.category_id = categories.canonical(request.category_id)
        request.parent_id = categories.canonical(request.parent_id)
        self._ready.append(Row(at, request))
        if len(self._ready) >= ROWS_MAX:
            await self.flush()

    async def finish(self) -> None:
        """Those whose parent never came are refused."""
        await self.flush()
        left = [row for rows in self._waiting.values() for row in rows]
        for n in range(0, len(left), ROWS_MAX):
            part = left[n : n + ROWS_MAX]
            await self._keep([(row.at, UnknownCategory(category_id=row.request.parent_id)) for row in part])

    async def flush(self) -> None:
        """Writes what is ready, and all that waited for it."""
        while self._ready:
            rows, self._ready = self._ready[:ROWS_MAX], self._ready[ROWS_MAX:]
            waiting = await self._written(rows)
            for row in waiting:
                self._waiting.setdefault(row.request.parent_id, []).append(row)
                self._waits += 1
            if self._waits > WAITING_MAX:
                raise ImportRefused(why=f"more than {WAITING_MAX} rows come before their parents")
            put_off = {row.at.number for row in waiting}
            for row in rows:
                if row.at.number not in put_off:
                    freed = self._waiting.pop(row.request.category_id, [])
                    self._waits -= len(freed)
                    self._ready += freed

    async def _written(self, rows: Sequence[Row]) -> list[Row]:
        """Returns those whose parent is not there."""
        for attempt in range(ATTEMPTS_MAX):
            try:
                async with self._db.fast() as tx:
                    await tree.lock(tx)
                    waiting, outcomes = await _write(tx, rows)
                    self.tally.update_time = self._db.clock.now()
                    self.tally = await self.tally.keep(tx, outcomes)
            except Conflict:
                if attempt == ATTEMPTS_MAX - 1:
                    raise
            else:
                return waiting
        raise AssertionError("unreachable")

    async def _keep(self, outcomes: Sequence[tuple[Numbered, Outcome]]) -> None:
        async with self._db.fast() as tx:
            self.tally = await self.tally.keep(tx, outcomes)


async def _write(tx: AnyTx, rows: Sequence[Row]) -> tuple[list[Row], list[tuple[Numbered, Outcome]]]:
    """Rows in their order; those without a parent are put off."""
    parents = {UUID(row.request.parent_id) for row in rows if row.request.parent_id}
    there = {str(each) for each in await tree.named(tx, parents)} if parents else set()
    outcomes: list[tuple[Numbered, Outcome]] = []
    waiting: list[Row] = []
    for row in rows:
        parent = row.request.parent_id
        if parent and parent not in there and parent != row.request.category_id:
            waiting.append(row)
            continue
        try:
            outcome: Outcome = await _take(tx, row.request)
            there.add(row.request.category_id)
        except Refusal as refusal:
            outcome = refusal
        outcomes.append((row.at, outcome))
    return waiting, outcomes


async def _take(tx: AnyTx, request: pb.CreateCategoryRequest) -> str:
    """A row, all of it or nothing: what may be refused is asked before anything is written."""
    known = await categories.load(tx, request.category_id)
    content = categories.canonical_content(request.content)
    if content.product_type_id and not await tree.types(tx, [UUID(content.product_type_id)]):
        raise UnknownProductType(product_type_id=content.product_type_id)
    if known is None:
        await categories.check_parent(tx, request.category_id, request.parent_id)
        new = categories.created(request.category_id, request.parent_id, content)
        await categories.append(tx, request.category_id, 0, [new])
        return CREATED
    if not known.content.name:
        raise UnknownCategory(category_id=request.category_id)
    changes: list[Any] = []
    if known.parent_id != request.parent_id:
        await categories.check_parent(tx, request.category_id, request.parent_id)
        changes.append(categories.moved(known, request.parent_id))
    if known.content != content:
        changes.append(categories.updated(known, content, after=len(changes)))
    if changes:
        await categories.append(tx, request.category_id, known.version, changes)
    return UPDATED if changes else UNCHANGED


class ImportsCategories:
    """The part of CategoryService that takes a whole tree in."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    async def ImportCategories(
        self, requests: AsyncIterator[pb.ImportCategoriesRequest], call: Call
    ) -> pb.ImportCategoriesResponse:
        now = self._shared.clock.now()
        running, number = CategoryImport(self._shared, Tally(None, now, now)), 0
        async for request in requests:
            for row in request.rows:
                await running.take(number, row)
                number += 1
        await running.finish()
        report = await running.tally.report(self._shared.db, self._shared.page_key)
        return pb.ImportCategoriesResponse(report=report)
