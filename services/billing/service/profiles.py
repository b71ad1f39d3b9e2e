"""weft.billing.v1.BillingProfileService."""

import hashlib
from uuid import UUID, uuid5

from services.billing.domain.invoice import InvoiceParty
from services.billing.domain.profile import (
    DEFAULT_SERIES,
    BillingParty,
    BillingProfile,
    Collection,
    Standing,
    zone,
)
from services.billing.domain.tax_number import VatCheck, number
from services.billing.service.shared import Shared
from services.billing.service.stamps import maybe_id, stamp
from services.billing.service.tax_numbers import told
from services.billing.store import dunning, profile as store, tax_number
from services.billing.store.once import written
from services.chassis.db import Tx
from services.chassis.events import emit
from services.chassis.masks import check_etag, etag
from services.chassis.method import Call
from weft.billing.v1 import profile_pb2 as pb
from weft.billing.v1.events_pb2 import BillingProfileChanged
from weft.billing.v1.profile_pb2_grpc import BillingProfileServiceServicer


class Profiles(BillingProfileServiceServicer):
    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    async def PutBillingProfile(
        self, request: pb.PutBillingProfileRequest, call: Call
    ) -> pb.PutBillingProfileResponse:
        customer_id = UUID(request.customer_id)
        zone(request.time_zone or "UTC")
        async with self._shared.db.transaction() as tx:
            new = await written(tx, self._fresh(customer_id))
            row = await store.get(tx, customer_id, lock=True)
            if not new:
                check_etag(request.etag, row.revision)
                row.revision += 1
            row.country, row.time_zone = request.country, request.time_zone or "UTC"
            row.method_id, row.updated_at = maybe_id(request.method_id), self._shared.clock.now()
            before = await store.party(tx, customer_id)
            fresh = request.vat_number and (before is None or before.vat_number != request.vat_number)
            party = await tx.merge(party_of(customer_id, request))
            if fresh:
                await self._check_number(tx, row, request.vat_number)
            await self._changed(tx, row)
        return pb.PutBillingProfileResponse(profile=to_pb(row, party))

    def _fresh(self, customer_id: UUID) -> BillingProfile:
        now = self._shared.clock.now()
        return BillingProfile(
            customer_id=customer_id,
            country="",
            time_zone="UTC",
            method_id=None,
            collection=Collection.AUTOMATIC,
            net_days=0,
            series=DEFAULT_SERIES,
            dunning_policy_id=None,
            tax_exempt=False,
            standing=Standing.GOOD,
            revision=1,
            created_at=now,
            updated_at=now,
        )

    async def _check_number(self, tx: Tx, row: BillingProfile, vat_number: str) -> None:
        """Has it confirmed, without waiting for that."""
        of = number(vat_number)
        check_id = uuid5(row.customer_id, f"{row.revision}:{of.compact}")
        digest = hashlib.sha256(f"{of.compact}/{row.customer_id}".encode()).digest()
        check = VatCheck.begin(check_id, row.customer_id, of, digest, self._shared.clock.now())
        if await written(tx, check):
            await told(tx, await tax_number.get(tx, check_id))

    async def _changed(self, tx: Tx, row: BillingProfile) -> None:
        await tx.flush()
        await emit(tx, BillingProfileChanged(customer_id=str(row.customer_id)))

    async def GetBillingProfile(
        self, request: pb.GetBillingProfileRequest, call: Call
    ) -> pb.GetBillingProfileResponse:
        async with self._shared.db.transaction() as tx:
            row = await store.get(tx, UUID(request.customer_id))
            party = await store.party(tx, row.customer_id)
        return pb.GetBillingProfileResponse(profile=to_pb(row, party))

    async def SetBillingTerms(
        self, request: pb.SetBillingTermsRequest, call: Call
    ) -> pb.SetBillingTermsResponse:
        terms = request.terms
        async with self._shared.db.transaction() as tx:
            row = await store.get(tx, UUID(request.customer_id), lock=True)
            sent = terms.collection == pb.COLLECTION_SENT
            row.collection = Collection.SENT if sent else Collection.AUTOMATIC
            if terms.dunning_policy_id:
                await dunning.policy(tx, UUID(terms.dunning_policy_id))
            row.net_days, row.series = terms.net_days, terms.series or DEFAULT_SERIES
            row.dunning_policy_id, row.tax_exempt = maybe_id(terms.dunning_policy_id), terms.tax_exempt
            row.revision, row.updated_at = row.revision + 1, self._shared.clock.now()
            party = await store.party(tx, row.customer_id)
            await self._changed(tx, row)
        return pb.SetBillingTermsResponse(profile=to_pb(row, party))


def party_of(customer_id: UUID, request: pb.PutBillingProfileRequest) -> BillingParty:
    address = request.address
    return BillingParty(
        customer_id=customer_id,
        name=address.name,
        lines=list(address.lines),
        postal_code=address.postal_code,
        city=address.city,
        region=address.region,
        email=address.email,
        locale=address.locale,
        vat_number=request.vat_number,
    )


def to_pb(row: BillingProfile, party: BillingParty | None) -> pb.BillingProfile:
    return pb.BillingProfile(
        customer_id=str(row.customer_id),
        country=row.country,
        time_zone=row.time_zone,
        vat_number=party.vat_number if party else "",
        address=address_to_pb(party) if party else None,
        method_id=str(row.method_id or ""),
        terms=pb.BillingTerms(
            collection=pb.Collection.Value(f"COLLECTION_{row.collection}"),
            net_days=row.net_days,
            series=row.series,
            dunning_policy_id=str(row.dunning_policy_id or ""),
            tax_exempt=row.tax_exempt,
        ),
        standing=pb.Standing.Value(f"STANDING_{row.standing}"),
        create_time=stamp(row.created_at),
        update_time=stamp(row.updated_at),
        etag=etag(row.revision),
    )


def address_to_pb(party: BillingParty | InvoiceParty) -> pb.Address:
    return pb.Address(
        name=party.name,
        lines=party.lines,
        postal_code=party.postal_code,
        city=party.city,
        region=party.region,
        email=party.email,
        locale=party.locale,
    )
