"""Certificates of the mesh: roots, intermediates that sign for a month, leaves that name one instance.

Leaves are SPIFFE's X.509-SVIDs: one URI, no CA, and the key signs handshakes of either side alone. Everything
is ECDSA on P-256 with SHA-256. Nothing here reads a clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from services.registry.domain.certificate import BadSigningRequest, NotYourName

SKEW = timedelta(minutes=1)  # Clocks may be that far behind: what is signed is good a minute back.
ROOT_LIFE = timedelta(days=3650)
INTERMEDIATE_LIFE = timedelta(days=30)
CHAIN_MAX = 5  # Certificates from an outside intermediate up to its root.


class BadAuthority(Exception):
    """An authority from outside cannot sign for the mesh; says why, and shows no key."""


@dataclass(frozen=True)
class Authority:
    """A certificate that may sign others, with its key."""

    chain: tuple[x509.Certificate, ...]  # Itself first, its root last.
    key: ec.EllipticCurvePrivateKey

    @property
    def certificate(self) -> x509.Certificate:
        return self.chain[0]

    @property
    def root(self) -> x509.Certificate:
        return self.chain[-1]

    @property
    def ends_at(self) -> datetime:
        """When the first of its chain ends."""
        return min(each.not_valid_after_utc for each in self.chain)


@dataclass(frozen=True)
class Name:
    """Whom a leaf names."""

    trust_domain: str
    service: str
    instance_id: UUID

    def __str__(self) -> str:
        return f"spiffe://{self.trust_domain}/service/{self.service}/instance/{self.instance_id}"


def make_root(trust_domain: str, now: datetime) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _common(f"Weft root of {trust_domain}")
    made = _authority(name, name, key, trust_domain, path_length=1)
    certificate = _signed(made, key, None, now - SKEW, now + ROOT_LIFE)
    return Authority((certificate,), key)


def make_intermediate(root: Authority, trust_domain: str, now: datetime) -> Authority:
    """It ends with its root at the latest."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _common(f"Weft intermediate of {trust_domain}, {now:%Y-%m-%d}")
    made = _authority(name, root.certificate.subject, key, trust_domain, path_length=0)
    ends_at = min(now + INTERMEDIATE_LIFE, root.ends_at)
    certificate = _signed(made, root.key, root.certificate, now - SKEW, ends_at)
    return Authority((certificate, *root.chain), key)


def from_outside(chain: str, key: str) -> Authority:
    """An intermediate with those above it up to a root, all PEM, and its key. Raises BadAuthority."""
    try:
        certificates = tuple(x509.load_pem_x509_certificates(chain.encode()))
        signer = serialization.load_pem_private_key(key.encode(), None)
    except (ValueError, TypeError) as error:
        raise BadAuthority("certificate or key is no PEM that can be read") from error
    if not isinstance(signer, ec.EllipticCurvePrivateKey) or not isinstance(signer.curve, ec.SECP256R1):
        raise BadAuthority("the key is not on the curve P-256")
    if signer.public_key() != certificates[0].public_key():
        raise BadAuthority("the key is not that of the first certificate")
    if len(certificates) > CHAIN_MAX:
        raise BadAuthority(f"the chain has more than {CHAIN_MAX} certificates")
    for below, above in zip(certificates, (*certificates[1:], certificates[-1]), strict=True):
        _check_signed(below, above)
    return Authority(certificates, signer)


def _check_signed(below: x509.Certificate, above: x509.Certificate) -> None:
    """Raises BadAuthority."""
    try:
        below.verify_directly_issued_by(above)
        may_sign = below.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound) as error:
        raise BadAuthority("each certificate must be signed by the next, and the last by itself") from error
    if not may_sign:
        raise BadAuthority("a certificate of the chain is no authority")


def requested(signing_request: bytes, name: Name) -> ec.EllipticCurvePublicKey:
    """The key to sign for. Raises BadSigningRequest, NotYourName."""
    load = x509.load_pem_x509_csr if signing_request[:5] == b"-----" else x509.load_der_x509_csr
    try:
        found = load(signing_request)
        valid, key, extensions = found.is_signature_valid, found.public_key(), list(found.extensions)
    except (ValueError, TypeError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise BadSigningRequest(why="it is no PKCS #10 request", field="signing_request") from error
    if not valid:
        raise BadSigningRequest(why="its key did not sign it", field="signing_request")
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise BadSigningRequest(why="its key is not on the curve P-256", field="signing_request")
    names = [
        each
        for extension in extensions
        if isinstance(extension.value, x509.SubjectAlternativeName)
        for each in extension.value
    ]
    if names not in ([], [x509.UniformResourceIdentifier(str(name))]):
        raise NotYourName(named=_shown(names), service=name.service, allowed=name)
    return key


def sign(
    authority: Authority, key: ec.EllipticCurvePublicKey, name: Name, now: datetime, life: timedelta
) -> x509.Certificate:
    """A leaf. It ends with the authority at the latest."""
    made = (
        x509.CertificateBuilder()
        .subject_name(_common(name.service))
        .issuer_name(authority.certificate.subject)
        .public_key(key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(leaf=True), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
            critical=False,
        )
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(name))]), critical=False
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )
    ends_at = min(now + life, authority.ends_at)
    return _signed(made, authority.key, authority.certificate, now - SKEW, ends_at)


def serial_of(certificate: x509.Certificate) -> str:
    """Hexadecimal."""
    return f"{certificate.serial_number:x}"


def pem(certificates: Sequence[x509.Certificate]) -> str:
    return "".join(each.public_bytes(serialization.Encoding.PEM).decode() for each in certificates)


def key_bytes(authority: Authority) -> bytes:
    """To be sealed."""
    return authority.key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def certificates(chain: str) -> tuple[x509.Certificate, ...]:
    """The opposite of `pem`."""
    return tuple(x509.load_pem_x509_certificates(chain.encode()))


def opened(chain: str, key: bytes) -> Authority:
    """What `pem` and `key_bytes` made."""
    signer = serialization.load_der_private_key(key, None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    return Authority(certificates(chain), signer)


def _authority(
    name: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, trust_domain: str, path_length: int
) -> x509.CertificateBuilder:
    domain = x509.UniformResourceIdentifier(f"spiffe://{trust_domain}")
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_usage(leaf=False), critical=True)
        .add_extension(x509.SubjectAlternativeName([domain]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _signed(
    made: x509.CertificateBuilder,
    signer: ec.EllipticCurvePrivateKey,
    issuer: x509.Certificate | None,
    starts_at: datetime,
    ends_at: datetime,
) -> x509.Certificate:
    """`issuer` is None for a root."""
    if issuer is not None:
        above = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
        made = made.add_extension(above, critical=False)
    return (
        made.serial_number(x509.random_serial_number())
        .not_valid_before(starts_at)
        .not_valid_after(ends_at)
        .sign(signer, hashes.SHA256())
    )


def _usage(*, leaf: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=leaf,
        key_cert_sign=not leaf,
        crl_sign=not leaf,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _common(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])  # RFC 5280: ub-common-name.


def _shown(names: Sequence[object]) -> str:
    """What a stranger wrote, as far as anybody reads it."""
    return ", ".join(str(getattr(each, "value", each)) for each in names)[:200]
