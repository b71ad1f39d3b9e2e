"""weft.registry.v1.CertificateService."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from services.chassis.events import emit
from services.chassis.method import Call
from services.registry.domain import authority as domain
from services.registry.domain.certificate import (
    LIVE_MAX,
    RENEW_AFTER,
    Certificate,
    InstanceRevoked,
    TooManyCertificates,
)
from services.registry.service import pack
from services.registry.service.shared import Shared
from services.registry.signing import Authorities, Signing
from services.registry.store import certificate as store
from weft.registry.v1 import certificate_pb2 as pb
from weft.registry.v1.certificate_pb2_grpc import CertificateServiceServicer
from weft.registry.v1.events_pb2 import CertificateIssued, CertificateRevoked


class Certificates(CertificateServiceServicer):
    def __init__(self, shared: Shared, authorities: Authorities) -> None:
        self._shared, self._authorities = shared, authorities

    async def IssueCertificate(
        self, request: pb.IssueCertificateRequest, call: Call
    ) -> pb.IssueCertificateResponse:
        service = call.caller.via
        name = domain.Name(self._authorities.trust_domain, service, UUID(request.instance_id))
        key = domain.requested(request.signing_request, name)
        life = request.life.ToTimedelta() if request.HasField("life") else self._authorities.life
        made = await signed(self._shared, self._authorities, key, name, life)
        return pb.IssueCertificateResponse(
            certificate=_message(made.row),
            chain=made.chain,
            trust_bundle=made.trusted,
            renew_time=pack.stamp(made.renew_at),
        )

    async def GetTrustBundle(
        self, request: pb.GetTrustBundleRequest, call: Call
    ) -> pb.GetTrustBundleResponse:
        async with self._shared.db.transaction() as tx:
            trusted = await self._authorities.trusted(tx, self._shared.clock.now())
        return pb.GetTrustBundleResponse(trust_domain=self._authorities.trust_domain, trust_bundle=trusted)

    async def ListCertificates(
        self, request: pb.ListCertificatesRequest, call: Call
    ) -> pb.ListCertificatesResponse:
        page = store.CERTIFICATES.page(request, self._shared.page_key)
        async with self._shared.db.transaction() as tx:
            rows, token = await store.page(tx, page)
        return pb.ListCertificatesResponse(certificates=map(_message, rows), next_page_token=token)

    async def RevokeCertificate(
        self, request: pb.RevokeCertificateRequest, call: Call
    ) -> pb.RevokeCertificateResponse:
        async with self._shared.db.transaction() as tx:
            row = await store.get(tx, request.serial)
            if row.revoked_at is None:
                row.revoked_at = self._shared.clock.now()
                gone = CertificateRevoked(serial=row.serial, service=row.service)
                gone.instance_id = str(row.instance_id)
                await emit(tx, gone)
        return pb.RevokeCertificateResponse(certificate=_message(row))


@dataclass(frozen=True)
class Signed:
    """A certificate, and what goes with it."""

    row: Certificate
    chain: str  # PEM, without the root.
    trusted: str  # PEM of the roots.
    renew_at: datetime


async def signed(
    shared: Shared,
    authorities: Authorities,
    key: ec.EllipticCurvePublicKey,
    name: domain.Name,
    life: timedelta,
) -> Signed:
    """Signs, writes down and announces. Raises InstanceRevoked, TooManyCertificates, AuthorityEnded."""
    now = shared.clock.now().replace(microsecond=0)
    async with shared.db.transaction() as tx:
        if await store.revoked(tx, name.service, name.instance_id):
            raise InstanceRevoked(instance_id=name.instance_id)
        if await store.live(tx, name.service, now) >= LIVE_MAX:
            raise TooManyCertificates(service=name.service, max=LIVE_MAX)
        by = await authorities.signing(tx, now)
        leaf = domain.sign(by.authority, key, name, now, min(life, authorities.life))
        row = _row(leaf, name, by)
        tx.add(row)
        event = CertificateIssued(serial=row.serial, service=name.service)
        event.instance_id = str(name.instance_id)
        event.expire_time.CopyFrom(pack.stamp(row.ends_at))
        await emit(tx, event)
        await store.forget(tx, now)
        trusted = await authorities.trusted(tx, now)
    chain = domain.pem([leaf, *by.authority.chain[:-1]])
    return Signed(row, chain, trusted, now + (row.ends_at - now) * RENEW_AFTER)


def _row(leaf: x509.Certificate, name: domain.Name, by: Signing) -> Certificate:
    return Certificate(
        serial=domain.serial_of(leaf),
        spiffe_id=str(name),
        service=name.service,
        instance_id=name.instance_id,
        authority_id=by.authority_id,
        authority_serial=domain.serial_of(by.authority.certificate),
        starts_at=leaf.not_valid_before_utc,
        ends_at=leaf.not_valid_after_utc,
        revoked_at=None,
    )


def _message(row: Certificate) -> pb.Certificate:
    return pb.Certificate(
        serial=row.serial,
        spiffe_id=row.spiffe_id,
        service=row.service,
        instance_id=str(row.instance_id),
        start_time=pack.stamp(row.starts_at),
        expire_time=pack.stamp(row.ends_at),
        revoke_time=pack.stamp(row.revoked_at) if row.revoked_at else None,
        authority_serial=row.authority_serial,
    )
