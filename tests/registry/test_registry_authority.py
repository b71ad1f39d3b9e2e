"""What the mesh's authorities sign: it verifies, names one instance, and nothing but an instance."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError
from hypothesis import given, settings, strategies as st

from services.registry.domain import authority as domain
from services.registry.domain.certificate import BadSigningRequest, NotYourName, chosen

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
TRUST = "weft.mesh"
NAME = domain.Name(TRUST, "cart", UUID(int=7))
ROOT = domain.make_root(TRUST, NOW)
INTERMEDIATE = domain.make_intermediate(ROOT, TRUST, NOW)


def request(
    key: Any, *names: x509.GeneralName, encoding: serialization.Encoding = serialization.Encoding.DER
) -> bytes:
    made = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    if names:
        made = made.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return made.sign(key, hashes.SHA256()).public_bytes(encoding)


def uri(name: object) -> x509.UniformResourceIdentifier:
    return x509.UniformResourceIdentifier(str(name))


def leaf(by: domain.Authority = INTERMEDIATE, life: timedelta = HOUR, at: datetime = NOW) -> x509.Certificate:
    return domain.sign(by, ec.generate_private_key(ec.SECP256R1()).public_key(), NAME, at, life)


def verified(certificate: x509.Certificate, by: domain.Authority, at: datetime) -> list[x509.GeneralName]:
    """As whoever it is shown to does, in either role. Raises VerificationError."""
    above = list(by.chain[:-1])
    policy = PolicyBuilder().store(Store([by.root])).time(at)
    found = policy.build_client_verifier().verify(certificate, above)
    return list(found.subjects or [])


@settings(max_examples=10, deadline=None)
@given(
    service=st.from_regex(r"[a-z][a-z0-9-]{0,62}", fullmatch=True),
    instance_id=st.uuids(),
    life_s=st.integers(60, 86_400),
)
def test_what_is_signed_verifies_for_its_life_and_names_its_instance(
    service: str, instance_id: UUID, life_s: int
) -> None:
    name, life = domain.Name(TRUST, service, instance_id), timedelta(seconds=life_s)
    key = ec.generate_private_key(ec.SECP256R1())
    made = domain.sign(INTERMEDIATE, domain.requested(request(key, uri(name)), name), name, NOW, life)
    assert verified(made, INTERMEDIATE, NOW - domain.SKEW) == [uri(name)]
    assert verified(made, INTERMEDIATE, NOW + life) == [uri(name)]
    for outside in (NOW - domain.SKEW - timedelta(seconds=1), NOW + life + timedelta(seconds=1)):
        with pytest.raises(VerificationError):
            verified(made, INTERMEDIATE, outside)
    assert made.public_key() == key.public_key()


def test_a_leaf_signs_handshakes_and_nothing_else() -> None:
    made = leaf()
    constraints = made.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca) == (True, False)
    usage = made.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.digital_signature
    assert not any((usage.value.key_cert_sign, usage.value.crl_sign, usage.value.key_agreement))
    roles = set(made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    assert roles == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert len({leaf().serial_number for _ in range(50)}) == 50
    forged = domain.Authority((made, *INTERMEDIATE.chain), ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(VerificationError):
        verified(leaf(forged), forged, NOW)


def test_an_intermediate_signs_no_other_and_nothing_outlives_its_authority() -> None:
    below = domain.make_intermediate(INTERMEDIATE, TRUST, NOW)
    with pytest.raises(VerificationError):
        verified(leaf(below), below, NOW)
    late = ROOT.ends_at - timedelta(days=3)
    last = domain.make_intermediate(ROOT, TRUST, late)
    assert last.ends_at == ROOT.ends_at
    at = ROOT.ends_at - timedelta(minutes=10)
    assert leaf(last, HOUR, at).not_valid_after_utc == ROOT.ends_at


def test_openssl_verifies_it_too(tmp_path: Path) -> None:
    files = {"root": [ROOT.certificate], "above": [INTERMEDIATE.certificate], "leaf": [leaf()]}
    for name, held in files.items():
        (tmp_path / name).write_text(domain.pem(held))
    at = str(int(NOW.timestamp()))
    for purpose in ("sslserver", "sslclient"):
        command = ["openssl", "verify", "-x509_strict", "-attime", at, "-purpose", purpose]
        command += ["-CAfile", "root", "-untrusted", "above", "leaf"]
        ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr


KEY = ec.generate_private_key(ec.SECP256R1())
OTHER = domain.Name(TRUST, "identity", NAME.instance_id)
REFUSED: dict[str, tuple[bytes, type[Exception]]] = {
    "noise": (b"\x30\x82\x01\x00" + bytes(300), BadSigningRequest),
    "PEM that is none": (b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END", BadSigningRequest),
    "a key on another curve": (request(ec.generate_private_key(ec.SECP384R1())), BadSigningRequest),
    "RSA": (request(rsa.generate_private_key(65537, 2048)), BadSigningRequest),
    "another service": (request(KEY, uri(OTHER)), NotYourName),
    "another instance": (request(KEY, uri(domain.Name(TRUST, "cart", UUID(int=8)))), NotYourName),
    "another domain": (request(KEY, uri(domain.Name("evil.test", "cart", UUID(int=7)))), NotYourName),
    "one name more": (request(KEY, uri(NAME), uri(OTHER)), NotYourName),
    "a host beside": (request(KEY, uri(NAME), x509.DNSName("identity")), NotYourName),
    "its id as a host": (request(KEY, x509.DNSName(str(NAME))), NotYourName),
}


@pytest.mark.parametrize(("sent", "refusal"), REFUSED.values(), ids=REFUSED.keys())
def test_a_request_that_asks_for_more_is_refused(sent: bytes, refusal: type[Exception]) -> None:
    with pytest.raises(refusal):
        domain.requested(sent, NAME)


def test_a_request_that_its_key_did_not_sign_is_refused() -> None:
    sent = bytearray(request(KEY, uri(NAME)))
    sent[-1] ^= 1
    with pytest.raises(BadSigningRequest):
        domain.requested(bytes(sent), NAME)


@pytest.mark.parametrize("encoding", [serialization.Encoding.DER, serialization.Encoding.PEM], ids=str)
def test_a_request_may_name_nothing(encoding: serialization.Encoding) -> None:
    assert domain.requested(request(KEY, encoding=encoding), NAME) == KEY.public_key()


def outside(*, ca: bool = True) -> tuple[str, str]:
    """An intermediate of somebody else's root, and its key."""
    root = domain.make_root("elsewhere.test", NOW)
    made = domain.make_intermediate(root, "elsewhere.test", NOW)
    chain = made.chain if ca else (leaf(root), root.certificate)
    key = made.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return domain.pem(chain), key.decode()


def test_an_authority_from_outside_signs() -> None:
    by = domain.from_outside(*outside())
    assert verified(leaf(by), by, NOW) == [uri(NAME)]


BROKEN: dict[str, Callable[[str, str], tuple[str, str]]] = {
    "no PEM": lambda chain, key: ("none", key),
    "no key": lambda chain, key: (chain, "none"),
    "another's key": lambda chain, key: (chain, outside()[1]),
    "no root": lambda chain, key: (domain.pem(domain.certificates(chain)[:1]), key),
    "another root": lambda chain, key: (
        domain.pem([domain.certificates(chain)[0], ROOT.certificate]),
        key,
    ),
    "the wrong order": lambda chain, key: (domain.pem(domain.certificates(chain)[::-1]), key),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN.keys())
def test_an_authority_that_cannot_sign_is_refused(broken: Callable[[str, str], tuple[str, str]]) -> None:
    with pytest.raises(domain.BadAuthority) as refused:
        domain.from_outside(*broken(*outside()))
    assert "BEGIN" not in str(refused.value)


def test_a_leaf_of_an_outside_root_is_no_authority() -> None:
    root = domain.make_root("elsewhere.test", NOW)
    key = ec.generate_private_key(ec.SECP256R1())
    made = domain.sign(root, key.public_key(), NAME, NOW, HOUR)
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with pytest.raises(domain.BadAuthority, match="no authority"):
        domain.from_outside(domain.pem([made, root.certificate]), text.decode())


@dataclass
class Candidate:
    root: str
    made_at: datetime
    ends_at: datetime


def test_whoever_renews_in_time_always_knows_the_root_of_whatever_is_signed() -> None:
    """Many processes over days in which authorities come, with new roots or old ones, at any moment."""
    for seed in range(50):
        chance = random.Random(seed)
        candidates = [Candidate("first", NOW, NOW + 40 * HOUR)]
        # What each process trusts, and when it renews: it is told all roots there are.
        trusts = [{"first"} for _ in range(5)]
        renews = [NOW + HOUR * chance.uniform(0, 2 / 3) for _ in range(5)]
        signed: list[tuple[datetime, str]] = []
        for step in range(300):
            now = NOW + timedelta(minutes=5) * step
            if chance.random() < 0.02:
                root = chance.choice(["first", str(uuid4())])
                candidates.insert(0, Candidate(root, now, now + 40 * HOUR))
            for number in range(5):
                if renews[number] <= now:
                    by = chosen(candidates, now, HOUR)
                    assert by is not None
                    trusts[number] = {each.root for each in candidates if each.ends_at > now}
                    signed.append((now, by.root))
                    renews[number] = now + HOUR * chance.uniform(0.5, 0.9)
            fresh = {root for at, root in signed if at + HOUR > now}
            assert all(fresh <= trusted for trusted in trusts), f"seed {seed}, step {step}"


def test_nobody_signs_once_all_have_ended() -> None:
    assert chosen([Candidate("a", NOW - 2 * HOUR, NOW)], NOW, HOUR) is None


def test_names_are_what_they_say() -> None:
    assert str(NAME) == f"spiffe://weft.mesh/service/cart/instance/{UUID(int=7)}"
    assert leaf().subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "cart"
