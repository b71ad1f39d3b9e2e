"""weft.billing.v1.BillingRunService."""

from uuid import UUID

from services.billing.domain.run import BillingRun, RunIdReused, RunRefused
from services.billing.service.shared import Shared
from services.billing.service.stamps import moment, stamp
from services.billing.store import run as store
from services.chassis.method import Call
from weft.billing.v1 import billing_run_pb2 as pb
from weft.billing.v1.billing_run_pb2_grpc import BillingRunServiceServicer


class BillingRuns(BillingRunServiceServicer):
    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    async def StartBillingRun(
        self, request: pb.StartBillingRunRequest, call: Call
    ) -> pb.StartBillingRunResponse:
        now, run_id = self._shared.clock.now(), UUID(request.run_id)
        as_of = moment(request.as_of_time) if request.HasField("as_of_time") else now
        if as_of > now:
            raise RunRefused(problem="what is to come cannot be billed yet", field="as_of_time")
        async with self._shared.db.transaction() as tx:
            await store.begin(tx, run_id, as_of, now)
            row = await store.get(tx, run_id)
        if request.HasField("as_of_time") and row.as_of != as_of:
            raise RunIdReused(run_id=run_id)
        self._shared.runner.poke()
        return pb.StartBillingRunResponse(run=to_pb(row))

    async def GetBillingRun(self, request: pb.GetBillingRunRequest, call: Call) -> pb.GetBillingRunResponse:
        async with self._shared.db.transaction() as tx:
            return pb.GetBillingRunResponse(run=to_pb(await store.get(tx, UUID(request.run_id))))

    async def ListBillingRuns(
        self, request: pb.ListBillingRunsRequest, call: Call
    ) -> pb.ListBillingRunsResponse:
        page = store.RUNS.page(request, self._shared.page_key)
        async with self._shared.db.transaction() as tx:
            rows, token = await store.page(tx, page)
        return pb.ListBillingRunsResponse(runs=map(to_pb, rows), next_page_token=token)


def to_pb(row: BillingRun) -> pb.BillingRun:
    return pb.BillingRun(
        run_id=str(row.run_id),
        as_of_time=stamp(row.as_of),
        state=pb.BillingRunState.Value(f"BILLING_RUN_STATE_{row.state}"),
        invoices=row.invoices,
        subscriptions=row.subscriptions,
        failures=row.failures,
        start_time=stamp(row.started_at),
        finish_time=stamp(row.finished_at),
    )
