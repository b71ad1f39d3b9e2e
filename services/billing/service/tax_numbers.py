"""weft.billing.v1.VatNumberService."""

import hashlib
from uuid import UUID

from services.billing.domain.tax_number import VatCheck, VatCheckIdReused, number
from services.billing.service.shared import Shared
from services.billing.service.stamps import maybe_id, stamp
from services.billing.service.tax import number_state
from services.billing.store import tax_number as store
from services.billing.store.once import written
from services.billing.tax.confirming import Confirming
from services.chassis.db import Tx
from services.chassis.events import emit
from services.chassis.method import Call
from weft.billing.v1 import vat_number_pb2 as pb
from weft.billing.v1.tax_events_pb2 import VatNumberChecked
from weft.billing.v1.vat_number_pb2_grpc import VatNumberServiceServicer


class VatNumbers(VatNumberServiceServicer):
    def __init__(self, shared: Shared, confirming: Confirming) -> None:
        self._shared, self._confirming = shared, confirming

    async def CheckVatNumber(
        self, request: pb.CheckVatNumberRequest, call: Call
    ) -> pb.CheckVatNumberResponse:
        of, check_id, now = number(request.vat_number), UUID(request.check_id), self._shared.clock.now()
        digest = hashlib.sha256(f"{of.compact}/{request.customer_id}".encode()).digest()
        new = VatCheck.begin(check_id, maybe_id(request.customer_id), of, digest, now)
        new.asked_at_once()
        async with self._shared.db.transaction() as tx:
            first = await written(tx, new)
            row = await store.get(tx, check_id)
            if first:
                await told(tx, row)
        if row.request_digest != digest:
            raise VatCheckIdReused(check_id=check_id)
        if first and row.retry_at is not None:
            row = await self._confirming.ask(row)
        return pb.CheckVatNumberResponse(check=to_pb(row))

    async def GetVatCheck(self, request: pb.GetVatCheckRequest, call: Call) -> pb.GetVatCheckResponse:
        async with self._shared.db.transaction() as tx:
            row = await store.get(tx, UUID(request.check_id))
        return pb.GetVatCheckResponse(check=to_pb(row))

    async def ListVatChecks(self, request: pb.ListVatChecksRequest, call: Call) -> pb.ListVatChecksResponse:
        page = store.CHECKS.page(request, self._shared.page_key)
        async with self._shared.db.transaction() as tx:
            rows, token = await store.page(tx, page, maybe_id(request.customer_id))
        return pb.ListVatChecksResponse(checks=map(to_pb, rows), next_page_token=token)


async def told(tx: Tx, row: VatCheck) -> None:
    """Announces what is known of the number by now."""
    await emit(
        tx,
        VatNumberChecked(
            check_id=str(row.check_id),
            customer_id=str(row.customer_id or ""),
            country=row.country,
            state=number_state(row.state),
        ),
    )


def to_pb(row: VatCheck) -> pb.VatCheck:
    return pb.VatCheck(
        check_id=str(row.check_id),
        customer_id=str(row.customer_id or ""),
        vat_number=row.vat_number,
        state=number_state(row.state),
        reason=row.reason,
        consultation_number=row.consultation_number,
        trader_name=row.trader_name,
        trader_address=row.trader_address,
        create_time=stamp(row.created_at),
        answer_time=stamp(row.answered_at),
        retry_time=stamp(row.retry_at),
        attempts=row.attempts,
    )
