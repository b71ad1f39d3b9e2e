"""How runs end: many of a kind at once, for what they share is decided and written once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple
from uuid import UUID

Run = tuple[UUID, int]  # A job and its run.


class EndKind(NamedTuple):
    """What ends share, and what they may set off."""

    run: int
    state: int
    reason: int
    queue: str
    type: str
    attempt: int
    worker: str
    group_id: UUID | None = None
    unique: bool = True
    announce: bool = False
    failure: str = ""  # The kind of it, such as `ValueError`.


@dataclass(frozen=True, slots=True)
class Ends:
    """Rows of `job_final`, to be written; of each job there is one."""

    kind: EndKind
    job_ids: Sequence[UUID]
    start_at: Sequence[float | None]  # Unix seconds; None: it was not begun.
    end_at: Sequence[float]
    reports: Sequence[bytes | None] = ()  # weft.jobs.v1.AttemptReport, where it says more; empty: none does.

    def without(self, known: set[Run]) -> Ends:
        """Those that had not ended before."""
        left = [n for n, job_id in enumerate(self.job_ids) if (job_id, self.kind.run) not in known]
        return replace(
            self,
            job_ids=[self.job_ids[n] for n in left],
            start_at=[self.start_at[n] for n in left],
            end_at=[self.end_at[n] for n in left],
            reports=[self.reports[n] for n in left] if self.reports else (),
        )


def fresh(ends: Sequence[Ends], known: set[Run]) -> list[Ends]:
    """What is left of them without runs that had ended before."""
    if not known:
        return list(ends)
    return [left for each in ends if (left := each.without(known)).job_ids]


def has_repeated(ends: Sequence[Ends]) -> bool:
    """Whether a run is named more than once."""
    runs = [(job_id, each.kind.run) for each in ends for job_id in each.job_ids]
    return len(set(runs)) < len(runs)
