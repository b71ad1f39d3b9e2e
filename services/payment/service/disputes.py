"""weft.payment.v1.DisputeService."""

from uuid import UUID

from services.chassis.method import Call
from services.payment.service import pack
from services.payment.service.shared import Shared
from services.payment.store import dispute as store
from weft.payment.v1 import dispute_pb2 as pb
from weft.payment.v1.dispute_pb2_grpc import DisputeServiceServicer


class Disputes(DisputeServiceServicer):
    def __init__(self, shared: Shared) -> None:
        self._shared, self._db = shared, shared.db

    async def GetDispute(self, request: pb.GetDisputeRequest, call: Call) -> pb.GetDisputeResponse:
        async with self._db.transaction() as tx:
            row = await store.get(tx, UUID(request.dispute_id))
        return pb.GetDisputeResponse(dispute=pack.dispute(row))

    async def ListDisputes(self, request: pb.ListDisputesRequest, call: Call) -> pb.ListDisputesResponse:
        page = store.DISPUTES.page(request, self._shared.page_key)
        async with self._db.transaction() as tx:
            rows, token = await store.page(tx, page)
        return pb.ListDisputesResponse(disputes=map(pack.dispute, rows), next_page_token=token)
