"""weft.inventory.v1.ReservationService."""

from datetime import datetime, timedelta
from hashlib import sha256
from uuid import UUID

from services.chassis.events import emit, provenance
from services.chassis.method import Call
from services.inventory.domain import reservation as rules
from services.inventory.domain.reservation import Ending, Reservation
from services.inventory.service import pack
from services.inventory.service.ending import End
from services.inventory.service.holding import Hold
from services.inventory.service.shared import Shared
from services.inventory.store import reservation as store
from weft.inventory.v1 import reservation_pb2 as pb
from weft.inventory.v1.events_pb2 import ReservationExtended
from weft.inventory.v1.reservation_pb2_grpc import ReservationServiceServicer


class Reservations(ReservationServiceServicer):
    def __init__(self, shared: Shared) -> None:
        self._shared, self._usual = shared, timedelta(seconds=shared.settings.reservation_ttl_s)

    async def Reserve(self, request: pb.ReserveRequest, call: Call) -> pb.ReserveResponse:
        demands = pack.demands(request.lines)
        hold = Hold(
            reservation_id=UUID(request.reservation_id),
            demands=demands,
            digest=rules.digest_of(demands),
            expire_at=self._expiry(request),
            by=provenance.get(),
        )
        made = await self._shared.holding.hold(hold)
        return pb.ReserveResponse(reservation=pack.reservation(made))

    async def Commit(self, request: pb.CommitRequest, call: Call) -> pb.CommitResponse:
        return pb.CommitResponse(reservation=pack.reservation(await self._end(request, "COMMIT")))

    async def Release(self, request: pb.ReleaseRequest, call: Call) -> pb.ReleaseResponse:
        return pb.ReleaseResponse(reservation=pack.reservation(await self._end(request, "RELEASE")))

    async def _end(self, request: pb.CommitRequest | pb.ReleaseRequest, ending: Ending) -> Reservation:
        if request.lines and not request.operation_id:
            raise rules.OperationIdRequired
        end = End(
            reservation_id=UUID(request.reservation_id),
            ending=ending,
            by=provenance.get(),
            parts=pack.demands(request.lines) if request.lines else None,
            operation_id=UUID(request.operation_id) if request.operation_id else None,
            digest=sha256(ending.encode() + request.SerializeToString(deterministic=True)).digest(),
        )
        return await self._shared.ends.end(end)

    async def ExtendReservation(
        self, request: pb.ExtendReservationRequest, call: Call
    ) -> pb.ExtendReservationResponse:
        now, reservation_id = self._shared.clock.now(), UUID(request.reservation_id)
        expire_at = rules.check_expiry(self._expiry(request), now)
        async with self._shared.db.fast() as tx:
            found = (await store.lock(tx, [reservation_id])).get(reservation_id)
            if found is None:
                raise rules.UnknownReservation(reservation_id=reservation_id)
            if found.state != "HELD":
                raise rules.ReservationNotHeld(reservation_id=reservation_id, state=found.state)
            if found.expire_at != expire_at:
                found.expire_at, found.updated_at = expire_at, now
                await store.write(tx, [found], now)
                event = ReservationExtended(reservation_id=request.reservation_id)
                event.expire_time.FromDatetime(expire_at)
                await emit(tx, event)
        return pb.ExtendReservationResponse(reservation=pack.reservation(found))

    def _expiry(self, request: pb.ReserveRequest | pb.ExtendReservationRequest) -> datetime:
        """Raises ExpiryRefused for a time that no calendar has."""
        if request.HasField("expire_time"):
            try:
                return pack.moment(request.expire_time)
            except (ValueError, OverflowError):
                raise rules.ExpiryRefused from None
        ttl = request.ttl.ToTimedelta() if request.HasField("ttl") else self._usual
        return self._shared.clock.now() + ttl

    async def GetReservation(
        self, request: pb.GetReservationRequest, call: Call
    ) -> pb.GetReservationResponse:
        async with self._shared.db.fast() as tx:
            found = await store.get(tx, UUID(request.reservation_id))
        return pb.GetReservationResponse(reservation=pack.reservation(found))

    async def ListReservations(
        self, request: pb.ListReservationsRequest, call: Call
    ) -> pb.ListReservationsResponse:
        page = store.RESERVATIONS.page(request, self._shared.page_key)
        async with self._shared.db.transaction() as tx:
            found, token = await store.page(tx, page, request.sku)
        return pb.ListReservationsResponse(reservations=map(pack.reservation, found), next_page_token=token)
