"""weft.registry.v1.FaultService."""

from __future__ import annotations

from uuid import UUID

from services.chassis.events import emit
from services.chassis.method import Call
from services.registry.domain.fault import FAULTS_MAX, Fault, FaultIdReused, TooManyFaults
from services.registry.service import pack
from services.registry.service.shared import Shared
from services.registry.store import fault as store, state
from weft.registry.v1 import fault_pb2 as pb
from weft.registry.v1.events_pb2 import FaultBegan, FaultEnded
from weft.registry.v1.fault_pb2_grpc import FaultServiceServicer


class Faults(FaultServiceServicer):
    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    async def BeginFault(self, request: pb.BeginFaultRequest, call: Call) -> pb.BeginFaultResponse:
        settings, fault_id = request.settings.SerializeToString(deterministic=True), UUID(request.fault_id)
        service = request.settings.service
        async with self._shared.db.transaction() as tx:
            order = await state.locked(tx)
            row = await store.find(tx, fault_id)
            if row is None:
                if await store.count(tx, service) >= FAULTS_MAX:
                    raise TooManyFaults(service=service, max=FAULTS_MAX)
                now = await state.clock(tx)
                row = Fault(
                    fault_id=fault_id,
                    service=service,
                    settings=settings,
                    revision=order.next(),
                    began_at=now,
                    ends_at=now + request.settings.lifetime.ToTimedelta(),
                )
                tx.add(row)
                await emit(tx, FaultBegan(fault_id=request.fault_id, service=service))
            elif row.settings != settings:
                raise FaultIdReused(fault_id=request.fault_id)
        return pb.BeginFaultResponse(fault=pack.fault(row))

    async def GetFault(self, request: pb.GetFaultRequest, call: Call) -> pb.GetFaultResponse:
        async with self._shared.db.transaction() as tx:
            row = await store.get(tx, UUID(request.fault_id))
        return pb.GetFaultResponse(fault=pack.fault(row))

    async def ListFaults(self, request: pb.ListFaultsRequest, call: Call) -> pb.ListFaultsResponse:
        page = store.FAULTS.page(request, self._shared.page_key)
        async with self._shared.db.transaction() as tx:
            rows, token = await store.page(tx, page)
        return pb.ListFaultsResponse(faults=map(pack.fault, rows), next_page_token=token)

    async def EndFault(self, request: pb.EndFaultRequest, call: Call) -> pb.EndFaultResponse:
        async with self._shared.db.transaction() as tx:
            order = await state.locked(tx)
            row = await store.get(tx, UUID(request.fault_id))
            await tx.delete(row)
            order.next()
            await emit(tx, FaultEnded(fault_id=request.fault_id, service=row.service))
        return pb.EndFaultResponse()
