"""weft.order.v1.OrderProcessService."""

from uuid import UUID

from services.chassis import saga_store
from services.chassis.method import Call
from services.order.service import pack
from services.order.service.shared import Shared
from weft.order.v1 import process_pb2 as pb
from weft.order.v1.process_pb2_grpc import OrderProcessServiceServicer

PAGE = 50  # As ListOrderProcesses promises.


class Processes(OrderProcessServiceServicer):
    def __init__(self, shared: Shared) -> None:
        self._shared, self._db = shared, shared.db

    async def ListOrderProcesses(
        self, request: pb.ListOrderProcessesRequest, call: Call
    ) -> pb.ListOrderProcessesResponse:
        count = request.page_size or PAGE
        state = pb.ProcessState.Name(request.state).removeprefix("PROCESS_STATE_") if request.state else ""
        if request.order_id:
            rows = await saga_store.of_subject(self._db, request.order_id, count, state)
        else:
            rows = await saga_store.unsettled(self._db, count, state)
        packed = [pack.process(row, self._shared.sagas.step(row)) for row in rows]
        return pb.ListOrderProcessesResponse(processes=packed)

    async def RetryOrderProcess(
        self, request: pb.RetryOrderProcessRequest, call: Call
    ) -> pb.RetryOrderProcessResponse:
        async with self._db.fast() as tx:
            row = await self._shared.sagas.retry(tx, request.kind, UUID(request.process_id))
        step = self._shared.sagas.step(row)
        return pb.RetryOrderProcessResponse(process=pack.process(row, step))
