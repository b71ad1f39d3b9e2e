"""weft.billing.v1.PlanService."""

from uuid import UUID

from services.billing.domain import plan as rules
from services.billing.domain.plan import (
    Plan,
    PlanCodeTaken,
    PlanIdReused,
    PlanRefused,
    PlanVersion,
    Terms,
    to_json,
)
from services.billing.service import terms as pack
from services.billing.service.shared import Shared
from services.billing.service.stamps import stamp
from services.billing.store import plan as store
from services.billing.store.once import written
from services.chassis.db import Tx
from services.chassis.events import emit
from services.chassis.method import Call
from weft.billing.v1 import plan_pb2 as pb
from weft.billing.v1.events_pb2 import PlanArchived, PlanVersionPublished
from weft.billing.v1.plan_pb2_grpc import PlanServiceServicer


class Plans(PlanServiceServicer):
    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    async def CreatePlan(self, request: pb.CreatePlanRequest, call: Call) -> pb.CreatePlanResponse:
        terms, now = pack.from_pb(request.terms), self._shared.clock.now()
        rules.check(terms)
        row = Plan(
            plan_id=UUID(request.plan_id),
            code=request.code,
            title=request.title,
            currency=terms.currency,
            version=1,
            archived_at=None,
            created_at=now,
            updated_at=now,
        )
        async with self._shared.db.transaction() as tx:
            other = await store.with_code(tx, request.code)
            if other is not None and other.plan_id != row.plan_id:
                raise PlanCodeTaken(code=request.code)
            if await written(tx, row):
                await self._publish(tx, row.plan_id, 1, terms)
            kept = await store.get(tx, row.plan_id)
            first = await store.version(tx, row.plan_id, 1)
        if (kept.code, kept.title, rules.from_json(first.terms)) != (row.code, row.title, terms):
            raise PlanIdReused(plan_id=row.plan_id)
        return pb.CreatePlanResponse(plan=to_pb(kept, first))

    async def _publish(self, tx: Tx, plan_id: UUID, version: int, terms: Terms) -> None:
        now = self._shared.clock.now()
        tx.add(PlanVersion(plan_id=plan_id, version=version, terms=to_json(terms), created_at=now))
        await tx.flush()
        await emit(tx, PlanVersionPublished(plan_id=str(plan_id), version=version))

    async def PublishPlanVersion(
        self, request: pb.PublishPlanVersionRequest, call: Call
    ) -> pb.PublishPlanVersionResponse:
        terms = pack.from_pb(request.terms)
        rules.check(terms)
        async with self._shared.db.transaction() as tx:
            row = await store.get(tx, UUID(request.plan_id), lock=True)
            if terms.currency != row.currency:
                raise PlanRefused(problem=f"its currency is {row.currency}", field="terms.currency")
            if request.version > row.version + 1:
                raise PlanRefused(problem=f"version {row.version + 1} is next", field="version")
            if request.version == row.version + 1:
                await self._publish(tx, row.plan_id, request.version, terms)
                row.version, row.updated_at = request.version, self._shared.clock.now()
            version = await store.version(tx, row.plan_id, request.version)
        if rules.from_json(version.terms) != terms:
            raise PlanIdReused(plan_id=row.plan_id)
        return pb.PublishPlanVersionResponse(plan=to_pb(row, version))

    async def ArchivePlan(self, request: pb.ArchivePlanRequest, call: Call) -> pb.ArchivePlanResponse:
        async with self._shared.db.transaction() as tx:
            row = await store.get(tx, UUID(request.plan_id), lock=True)
            if row.archived_at is None:
                row.archived_at = row.updated_at = self._shared.clock.now()
                await emit(tx, PlanArchived(plan_id=request.plan_id))
            version = await store.version(tx, row.plan_id, row.version)
        return pb.ArchivePlanResponse(plan=to_pb(row, version))

    async def GetPlan(self, request: pb.GetPlanRequest, call: Call) -> pb.GetPlanResponse:
        async with self._shared.db.transaction() as tx:
            row = await store.get(tx, UUID(request.plan_id))
            version = await store.version(tx, row.plan_id, request.version or row.version)
        return pb.GetPlanResponse(plan=to_pb(row, version))

    async def ListPlans(self, request: pb.ListPlansRequest, call: Call) -> pb.ListPlansResponse:
        page = store.PLANS.page(request, self._shared.page_key)
        async with self._shared.db.transaction() as tx:
            rows, token = await store.page(tx, page)
            newest = [await store.version(tx, row.plan_id, row.version) for row in rows]
        plans = [to_pb(row, version) for row, version in zip(rows, newest, strict=True)]
        return pb.ListPlansResponse(plans=plans, next_page_token=token)


def to_pb(row: Plan, version: PlanVersion) -> pb.Plan:
    return pb.Plan(
        plan_id=str(row.plan_id),
        code=row.code,
        title=row.title,
        version=version.version,
        newest_version=row.version,
        terms=pack.to_pb(rules.from_json(version.terms)),
        create_time=stamp(row.created_at),
        archive_time=stamp(row.archived_at),
    )
