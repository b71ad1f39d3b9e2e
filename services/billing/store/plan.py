"""Plans, and the terms of their versions, which are read once for ever."""

from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import select

from services.billing.domain.plan import Plan, PlanVersion, Terms, UnknownPlan, UnknownPlanVersion, from_json
from services.chassis.db import AnyTx, Tx, fetch
from services.chassis.filtering import Field
from services.chassis.listing import Listing, Page

KEPT_MAX = 2_000  # Versions in memory: more than a business sells at once; about 5 kB each.
PLANS = Listing(
    {
        "create_time": Field(Plan.created_at),
        "plan_id": Field(Plan.plan_id, order=False),
        "code": Field(Plan.code),
        "title": Field(Plan.title),
        "currency": Field(Plan.currency, order=False),
        "archive_time": Field(Plan.archived_at, nullable=True, order=False),
    },
    "create_time desc",
    "plan_id",
)
Key = tuple[UUID, int]


class TermsOf:
    """The terms of versions, kept in memory: they never change."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Key, Terms] = OrderedDict()

    async def many(self, tx: AnyTx, keys: Collection[Key]) -> Mapping[Key, Terms]:
        """Raises UnknownPlanVersion."""
        missing = [key for key in keys if key not in self._kept]
        if missing:
            sql = """select plan_id, version, terms::text as terms from plan_version
                join unnest($1::uuid[], $2::integer[]) as wanted (id, v) on plan_id = id and version = v"""
            rows = await fetch(tx, sql, [key[0] for key in missing], [key[1] for key in missing])
            for row in rows:
                kept: dict[str, Any] = msgspec.json.decode(row["terms"])
                self._kept[row["plan_id"], row["version"]] = from_json(kept)
        found = {key: self._kept[key] for key in keys if key in self._kept}
        for key in keys:
            if key not in found:
                raise UnknownPlanVersion(plan_id=key[0], version=key[1])
        while len(self._kept) > KEPT_MAX:
            self._kept.popitem(last=False)
        return found

    async def one(self, tx: AnyTx, plan_id: UUID, version: int) -> Terms:
        """Raises UnknownPlanVersion."""
        return (await self.many(tx, [(plan_id, version)]))[plan_id, version]


async def get(tx: Tx, plan_id: UUID, *, lock: bool = False) -> Plan:
    """Raises UnknownPlan."""
    row = await tx.get(Plan, plan_id, with_for_update=lock, populate_existing=lock)
    if row is None:
        raise UnknownPlan(plan_id=plan_id)
    return row


async def newest(tx: AnyTx, plan_id: UUID) -> Mapping[str, Any]:
    """version, currency and archived_at. Raises UnknownPlan."""
    rows = await fetch(tx, "select version, currency, archived_at from plan where plan_id = $1", plan_id)
    if not rows:
        raise UnknownPlan(plan_id=plan_id)
    found: Mapping[str, Any] = rows[0]
    return found


async def version(tx: Tx, plan_id: UUID, number: int) -> PlanVersion:
    """Raises UnknownPlanVersion."""
    row = await tx.get(PlanVersion, (plan_id, number))
    if row is None:
        raise UnknownPlanVersion(plan_id=plan_id, version=number)
    return row


async def with_code(tx: Tx, code: str) -> Plan | None:
    return (await tx.scalars(select(Plan).where(Plan.code == code))).one_or_none()


async def page(tx: Tx, page: Page) -> tuple[Sequence[Plan], str]:
    """Rows, and the next page's token."""
    return page.cut((await tx.scalars(page.select(select(Plan)))).all())
