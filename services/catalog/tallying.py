"""What becomes of the rows of an import: counted, kept under the import's id, and reported."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from services.catalog import reading
from services.catalog.domain.refusals import ImportIdReused, ImportRefused, ImportRunning
from services.catalog.store import imports
from services.catalog.store.imports import REFUSED_MAX, Refused
from services.chassis.db import AnyTx, Database
from services.chassis.errors import Refusal
from weft.catalog.v1 import transfer_pb2 as pb

ERRORS_TOLD_MAX = 100  # In a report; the others are listed page by page.
MESSAGE_CHARS_MAX = 500  # A message names the value that it is about, which may be long.
CREATED, UPDATED, UNCHANGED = "created", "updated", "unchanged"
Outcome = str | Refusal


@dataclass(frozen=True, slots=True)
class Numbered:
    """Which row it is; `line` 0 when it came from no file."""

    number: int
    line: int = 0
    subject: str = ""


@dataclass
class Tally:
    """Counts of one import over all its tries."""

    import_id: UUID | None
    begin_time: datetime
    update_time: datetime
    rows_done: int = 0
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    refused: int = 0
    errors: list[Refused] = field(default_factory=list)

    @classmethod
    async def begun(cls, db: Database, import_id: UUID | None, kind: str, first_row: int) -> "Tally":
        """Where the import stands. Raises ImportIdReused, ImportRefused."""
        now = db.clock.now()
        if import_id is None:
            if first_row:
                raise ImportRefused(why="only an import with an id begins in the middle")
            return cls(None, now, now)
        row = await imports.begin(db, import_id, kind, now)
        if row["kind"] != kind:
            raise ImportIdReused(import_id=import_id, kind=row["kind"])
        if first_row > row["rows_done"]:
            raise ImportRefused(why=f"row {row['rows_done']} is next, and it begins with {first_row}")
        return cls.of(row)

    @classmethod
    def of(cls, row: Any) -> "Tally":
        names = ("rows_done", "created", "updated", "unchanged", "refused")
        counts = {name: row[name] for name in names}
        return cls(row["import_id"], row["begin_time"], row["update_time"], **counts)

    async def lock(self, tx: AnyTx) -> None:
        """Nobody else goes on with the import until `tx` ends. Raises ImportRunning."""
        if self.import_id is None:
            return
        row = await imports.lock(tx, self.import_id)
        if row["rows_done"] != self.rows_done:
            raise ImportRunning(import_id=self.import_id, rows_done=row["rows_done"])

    async def keep(self, tx: AnyTx, outcomes: Sequence[tuple[Numbered, Outcome]]) -> "Tally":
        """The tally after these rows; it is true once `tx` has committed."""
        now = self.update_time
        refused = [_refused(row, outcome) for row, outcome in outcomes if isinstance(outcome, Refusal)]
        said = [outcome for _, outcome in outcomes if isinstance(outcome, str)]
        counts = [len(outcomes), *map(said.count, (CREATED, UPDATED, UNCHANGED)), len(refused)]
        if self.import_id is not None:
            room = max(0, REFUSED_MAX - self.refused)
            await imports.add(tx, self.import_id, counts, refused[:room], now)
        own = (self.rows_done, self.created, self.updated, self.unchanged, self.refused)
        done, created, updated, unchanged, lost = (a + b for a, b in zip(own, counts, strict=True))
        return Tally(
            import_id=self.import_id,
            begin_time=self.begin_time,
            update_time=now,
            rows_done=done,
            created=created,
            updated=updated,
            unchanged=unchanged,
            refused=lost,
            errors=(self.errors + refused)[:ERRORS_TOLD_MAX],
        )

    async def report(self, db: Database, page_key: str) -> pb.ImportReport:
        """With the first errors of the whole import."""
        errors = [error_to_pb(vars_of(each)) for each in self.errors]
        if self.import_id is not None:
            request = pb.ListImportErrorsRequest(page_size=ERRORS_TOLD_MAX)
            page = imports.LISTING.page(request, page_key)
            rows, _ = page.cut(await imports.refused(db, self.import_id, page))
            errors = list(map(error_to_pb, rows))
        return pb.ImportReport(
            import_id=str(self.import_id or ""),
            rows_done=self.rows_done,
            created=self.created,
            updated=self.updated,
            unchanged=self.unchanged,
            refused=self.refused,
            errors=errors,
            begin_time=reading.stamp(self.begin_time),
            update_time=reading.stamp(self.update_time),
        )


def _refused(row: Numbered, refusal: Refusal) -> Refused:
    message = str(refusal)[:MESSAGE_CHARS_MAX].replace("\0", "")
    return Refused(row.number, row.line, row.subject, refusal.reason(), message)


def vars_of(refused: Refused) -> dict[str, Any]:
    return {name: getattr(refused, name) for name in Refused.__slots__}


def error_to_pb(row: Any) -> pb.ImportError:
    return pb.ImportError(
        row=row["row"],
        line=row["line"],
        subject=row["subject"],
        reason=row["reason"],
        message=row["message"],
    )
