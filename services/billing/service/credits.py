"""weft.billing.v1.CreditService."""

from uuid import UUID

from services.billing import settling
from services.billing.domain.credit import Credit, CreditIdReused, CreditRefused, Source, UnknownCredit
from services.billing.service.shared import Shared
from services.billing.service.stamps import maybe_id, moment, stamp
from services.billing.store import credit as store, profile as profiles
from services.chassis.events import emit
from services.chassis.method import Call
from services.chassis.money import exponent
from weft.billing.v1 import credit_pb2 as pb
from weft.billing.v1.credit_pb2_grpc import CreditServiceServicer
from weft.money.v1.money_pb2 import Money

# What two grants of one id must agree in.
SAME = ("customer_id", "amount", "currency", "reason", "expires_at", "source")


class Credits(CreditServiceServicer):
    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    async def GrantCredit(self, request: pb.GrantCreditRequest, call: Call) -> pb.GrantCreditResponse:
        now = self._shared.clock.now()
        exponent(request.amount.currency)
        row = Credit(
            credit_id=UUID(request.credit_id),
            customer_id=UUID(request.customer_id),
            currency=request.amount.currency,
            amount=request.amount.amount_minor,
            remaining=request.amount.amount_minor,
            source=Source.GRANT,
            reason=request.reason,
            expires_at=moment(request.expire_time) if request.HasField("expire_time") else None,
            created_at=now,
        )
        async with self._shared.db.transaction() as tx:
            await profiles.get(tx, row.customer_id, lock=True)
            if await store.grant(tx, row):
                if row.expires_at and row.expires_at <= now:
                    raise CreditRefused(problem="it has lapsed already", field="expire_time")
                await emit(tx, settling.granted(row))
            kept = await store.get(tx, row.credit_id)
        if any(getattr(kept, name) != getattr(row, name) for name in SAME):
            raise CreditIdReused(credit_id=row.credit_id)
        return pb.GrantCreditResponse(credit=to_pb(kept))

    async def GetCredit(self, request: pb.GetCreditRequest, call: Call) -> pb.GetCreditResponse:
        async with self._shared.db.transaction() as tx:
            row = await store.get(tx, UUID(request.credit_id))
        if request.customer_id and str(row.customer_id) != request.customer_id:
            raise UnknownCredit(credit_id=request.credit_id)
        return pb.GetCreditResponse(credit=to_pb(row))

    async def ListCredits(self, request: pb.ListCreditsRequest, call: Call) -> pb.ListCreditsResponse:
        page = store.CREDITS.page(request, self._shared.page_key)
        async with self._shared.db.transaction() as tx:
            rows, token = await store.page(tx, page, maybe_id(request.customer_id))
        return pb.ListCreditsResponse(credits=map(to_pb, rows), next_page_token=token)


def to_pb(row: Credit) -> pb.Credit:
    return pb.Credit(
        credit_id=str(row.credit_id),
        customer_id=str(row.customer_id),
        amount=Money(amount_minor=row.amount, currency=row.currency),
        remaining=Money(amount_minor=row.remaining, currency=row.currency),
        source=pb.CreditSource.Value(f"CREDIT_SOURCE_{row.source}"),
        reason=row.reason,
        expire_time=stamp(row.expires_at),
        create_time=stamp(row.created_at),
    )
