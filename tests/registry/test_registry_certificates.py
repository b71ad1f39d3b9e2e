"""A process that proves its service gets a certificate in that name; others do not, nor what was revoked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError
from google.protobuf.duration_pb2 import Duration

from services.chassis.clock import FakeClock
from services.chassis.config import BadSetting
from services.chassis.testing import Lab, laboratory
from services.registry.app import build
from services.registry.domain import authority as domain
from services.registry.domain.certificate import LIVE_MAX, AuthorityEnded
from services.registry.settings import RegistrySettings
from services.registry.signing import Authorities
from tests.registry.mesh import refused
from tests.servers import Shared
from weft.registry.v1 import certificate_pb2 as pb
from weft.registry.v1.certificate_pb2_grpc import CertificateServiceStub

KEY = ec.generate_private_key(ec.SECP256R1())
DAY_S = 86_400
P256 = bytes.fromhex("06082a8648ce3d030107")  # Its object identifier, which each key names.
FILL = """
insert into certificate select $1::text || n, 's', $1, gen_random_uuid(), authority_id, serial, made_at, $2
from authority, generate_series(1, $3) n where kind = 'INTERMEDIATE' and ends_at >= $2
"""


@dataclass
class Office:
    """A registry whose clock stands still, and who asks it."""

    lab: Lab
    clock: FakeClock

    @property
    def stub(self) -> Any:
        return CertificateServiceStub(self.lab.channel)

    async def issue(
        self, service: str = "cart", instance_id: str = "", named: str = "", life_s: int = 0
    ) -> pb.IssueCertificateResponse:
        instance_id = instance_id or str(uuid4())
        sent = pb.IssueCertificateRequest(
            instance_id=instance_id,
            signing_request=asking(f"spiffe://weft.mesh/service/{named or service}/instance/{instance_id}"),
            life=Duration(seconds=life_s) if life_s else None,
        )
        answer: pb.IssueCertificateResponse = await self.stub.IssueCertificate(
            sent, metadata=self.lab.as_service(service)
        )
        return answer

    async def bundle(self) -> str:
        answer = await self.stub.GetTrustBundle(
            pb.GetTrustBundleRequest(), metadata=self.lab.as_service("cart")
        )
        return str(answer.trust_bundle)

    async def revoke(self, serial: str) -> Any:
        asked = pb.RevokeCertificateRequest(serial=serial)
        return (await self.stub.RevokeCertificate(asked, metadata=self.lab.bearer())).certificate

    async def announced(self, key: str) -> list[str]:
        rows = await self.lab.db("registry").fetch("select type from event where key = $1", key)
        return [row["type"].rpartition(".")[2] for row in rows]


def asking(name: str) -> bytes:
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(name)])
    made = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    signed = made.add_extension(names, critical=False).sign(KEY, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.DER)


def verified(chain: str, bundle: str, at: datetime) -> list[str]:
    """The names that hold. Raises VerificationError."""
    leaf, *above = domain.certificates(chain)
    policy = PolicyBuilder().store(Store(domain.certificates(bundle))).time(at)
    found = policy.build_client_verifier().verify(leaf, above)
    return [name.value for name in found.subjects or []]


@pytest.fixture(scope="module")
async def office(servers: Shared) -> AsyncIterator[Office]:
    clock = FakeClock()
    urls = {"postgres_url": servers.postgres(), "nats_url": servers.account()}
    async with laboratory({"registry": lambda tools: build(tools, {})}, **urls, clock=clock) as lab:
        yield Office(lab, clock)


async def test_many_at_once_are_signed_by_one_authority_each_in_its_name(office: Office) -> None:
    answers = await asyncio.gather(*(office.issue(f"crowd-{number % 4}") for number in range(32)))
    bundle = await office.bundle()
    for answer in answers:
        named = verified(answer.chain, bundle, office.clock.now())
        assert named == [answer.certificate.spiffe_id]
        assert answer.trust_bundle == bundle
    assert len({answer.certificate.authority_serial for answer in answers}) == 1
    assert len({answer.certificate.serial for answer in answers}) == 32
    first = answers[0].certificate
    assert await office.announced(first.serial) == ["CertificateIssued"]
    assert await office.announced(first.authority_serial) == ["AuthorityMade"]
    kept = await office.lab.db("registry").fetchval("select count(*) from authority")
    assert kept == 2, "a root and an intermediate"


async def test_lives_are_bounded_and_renewed_while_a_third_is_left(office: Office) -> None:
    now = office.clock.now()
    for asked, given in ((0, 3600), (60, 60), (DAY_S, 3600)):
        answer = await office.issue(life_s=asked)
        ends = answer.certificate.expire_time.ToDatetime(tzinfo=now.tzinfo)
        assert ends == now + timedelta(seconds=given)
        assert answer.renew_time.ToDatetime(tzinfo=now.tzinfo) == now + timedelta(seconds=given * 2 // 3)


async def test_nobody_gets_a_certificate_in_anothers_name(office: Office) -> None:
    denied = grpc.StatusCode.PERMISSION_DENIED
    assert await refused(office.issue("cart", named="identity")) == (denied, "NOT_YOUR_NAME")
    request = pb.IssueCertificateRequest(instance_id=str(uuid4()), signing_request=b"none")
    as_cart, as_person = office.lab.as_service("cart"), office.lab.bearer()
    call = office.stub.IssueCertificate
    assert await refused(call(request, metadata=as_person)) == (denied, "MESH_ONLY")
    bad = await refused(call(request, metadata=as_cart))
    assert bad == (grpc.StatusCode.INVALID_ARGUMENT, "BAD_SIGNING_REQUEST")


async def test_a_revoked_instance_is_signed_for_no_more(office: Office) -> None:
    instance_id = str(uuid4())
    answer = await office.issue("revoked", instance_id)
    serial = answer.certificate.serial
    for _ in range(2):
        assert (await office.revoke(serial)).HasField("revoke_time")
    assert await office.announced(serial) == ["CertificateIssued", "CertificateRevoked"]
    again = await refused(office.issue("revoked", instance_id))
    assert again == (grpc.StatusCode.FAILED_PRECONDITION, "INSTANCE_REVOKED")
    await office.issue("revoked")
    await office.issue("other", instance_id)
    asked = pb.ListCertificatesRequest(filter='service = "revoked" AND revoke_time:*')
    listed = await office.stub.ListCertificates(asked, metadata=office.lab.bearer())
    assert [each.serial for each in listed.certificates] == [serial]
    assert (await refused(office.revoke("abc")))[1] == "UNKNOWN_CERTIFICATE"


async def test_no_service_has_certificates_without_end(office: Office) -> None:
    await office.issue("greedy")
    ends = office.clock.now() + timedelta(minutes=30)
    await office.lab.db("registry").execute(FILL, "greedy", ends, LIVE_MAX - 1)
    assert (await refused(office.issue("greedy")))[1] == "TOO_MANY_CERTIFICATES"
    await office.issue("modest")
    office.clock.advance(3 * DAY_S)
    await office.issue("greedy")
    left = "select count(*) from certificate where service = 'greedy'"
    assert await office.lab.db("registry").fetchval(left) < LIVE_MAX, "what ended long ago goes"


async def test_an_intermediate_gives_way_in_time_and_what_it_signed_stays_good(office: Office) -> None:
    first = await office.issue()
    office.clock.advance(21 * DAY_S)
    second = await office.issue()
    assert first.certificate.authority_serial != second.certificate.authority_serial
    office.clock.advance(1_800)
    third = await office.issue()
    assert second.certificate.authority_serial == third.certificate.authority_serial
    bundle, now = await office.bundle(), office.clock.now()
    assert bundle == first.trust_bundle, "one root above both"
    for answer in (second, third):
        verified(answer.chain, bundle, now)
    with pytest.raises(VerificationError):
        verified(first.chain, bundle, now)


def outside(now: datetime) -> RegistrySettings:
    made = domain.make_intermediate(domain.make_root("elsewhere.test", now), "elsewhere.test", now)
    key = made.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return RegistrySettings(authority=domain.pem(made.chain), authority_key=key.decode())


async def test_an_outside_root_is_told_for_a_life_before_it_signs(office: Office) -> None:
    before, db, clock = await office.issue(), office.lab.db("registry"), office.clock
    settings = outside(clock.now())
    authorities = Authorities(settings, office.lab.settings.mesh_key)
    async with db.transaction() as tx:
        both = await authorities.trusted(tx, clock.now())
        by = await authorities.signing(tx, clock.now())
    assert len(domain.certificates(both)) == 2
    assert domain.serial_of(by.authority.certificate) == before.certificate.authority_serial
    clock.advance(3_600)
    async with db.transaction() as tx:
        by = await authorities.signing(tx, clock.now())
    assert domain.pem(by.authority.chain) == settings.authority
    assert len(domain.certificates(await office.bundle())) == 1, "it signed nothing, and none names it now"
    clock.advance(31 * DAY_S)
    async with db.transaction() as tx:
        with pytest.raises(AuthorityEnded):
            await authorities.signing(tx, clock.now())
    with pytest.raises(BadSetting, match="not that of"):
        Authorities(
            RegistrySettings(authority=settings.authority, authority_key=outside(clock.now()).authority_key),
            "k",
        )


async def test_keys_rest_sealed_and_another_sealing_key_makes_another_authority(office: Office) -> None:
    await office.issue()
    db, now = office.lab.db("registry"), office.clock.now()
    rows = await db.fetch("select serial, sealed_key, chain from authority")
    for row in rows:
        assert P256 not in (row["sealed_key"] or b"")
        assert "PRIVATE" not in row["chain"]
    other = Authorities(RegistrySettings(key="another"), office.lab.settings.mesh_key)
    async with db.transaction() as tx:
        by = await other.signing(tx, now)
    assert domain.serial_of(by.authority.certificate) not in {row["serial"] for row in rows}
