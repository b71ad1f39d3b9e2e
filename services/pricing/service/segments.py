"""weft.pricing.v1.SegmentService."""

from uuid import UUID

from services.chassis.events import emit
from services.chassis.method import Call
from services.pricing import reading
from services.pricing.service import pack
from services.pricing.service.shared import Shared
from services.pricing.store import segment as store
from weft.pricing.v1 import segment_pb2 as pb
from weft.pricing.v1.events_pb2 import SegmentMembershipChanged
from weft.pricing.v1.segment_pb2_grpc import SegmentServiceServicer


class Segments(SegmentServiceServicer):
    def __init__(self, shared: Shared) -> None:
        self._db, self._page_key = shared.db, shared.page_key

    async def AddSegmentMember(
        self, request: pb.AddSegmentMemberRequest, call: Call
    ) -> pb.AddSegmentMemberResponse:
        until = reading.moment(request, "valid_to")
        async with self._db.transaction() as tx:
            if await store.add(tx, UUID(request.customer_id), request.segment, until):
                await emit(tx, _changed(request, member=True))
        member = pb.SegmentMember(
            segment=request.segment, customer_id=request.customer_id, valid_to=pack.stamp(until)
        )
        return pb.AddSegmentMemberResponse(member=member)

    async def RemoveSegmentMember(
        self, request: pb.RemoveSegmentMemberRequest, call: Call
    ) -> pb.RemoveSegmentMemberResponse:
        async with self._db.transaction() as tx:
            if await store.remove(tx, UUID(request.customer_id), request.segment):
                await emit(tx, _changed(request, member=False))
        return pb.RemoveSegmentMemberResponse()

    async def ListSegmentMembers(
        self, request: pb.ListSegmentMembersRequest, call: Call
    ) -> pb.ListSegmentMembersResponse:
        page = store.MEMBERS.page(request, self._page_key)
        async with self._db.transaction() as tx:
            rows, token = await store.page(tx, page, request.segment)
        return pb.ListSegmentMembersResponse(members=map(pack.member, rows), next_page_token=token)


def _changed(
    request: pb.AddSegmentMemberRequest | pb.RemoveSegmentMemberRequest, *, member: bool
) -> SegmentMembershipChanged:
    return SegmentMembershipChanged(customer_id=request.customer_id, segment=request.segment, member=member)
