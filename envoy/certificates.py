"""The edge's certificate: a development CA and leaf, and the secret by which Envoy watches them.

A rotation writes a new folder and swaps the link `current` in one rename: Envoy sees the move and takes
key and chain together, with no restart.
"""

from __future__ import annotations

import ipaddress
import os
import shutil
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .wire import Json, typed

NAMES = ("localhost", "*.weft.localhost", "edge")
ADDRESSES = ("127.0.0.1", "::1")
CA_LIFE = timedelta(days=3650)
LEAF_LIFE = timedelta(days=90)  # Browsers refuse leaves much longer; renewed at any `up` near the end.
RENEW_BEFORE = timedelta(days=30)
SKEW = timedelta(minutes=5)  # A client's clock may be behind.
CURRENT = "current"


def ensure(folder: Path, now: datetime) -> None:
    """Makes CA and leaf where they are absent or near their end."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _fresh(folder / "ca.crt", now):
        _make_ca(folder, now)
        rotate(folder, now)
    elif not _fresh(folder / CURRENT / "edge.crt", now):
        rotate(folder, now)


def rotate(folder: Path, now: datetime) -> None:
    """A new leaf, put in the old one's place at once."""
    authority = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
    signer = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    alternative = [x509.DNSName(name) for name in NAMES]
    addresses = [x509.IPAddress(ipaddress.ip_address(each)) for each in ADDRESSES]
    certificate = (
        _builder("Weft development edge", authority.subject, key, now, LEAF_LIFE)
        .add_extension(x509.SubjectAlternativeName([*alternative, *addresses]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
        .sign(signer, hashes.SHA256())
    )
    old = os.readlink(folder / CURRENT) if (folder / CURRENT).is_symlink() else None
    fresh = folder / f"leaf-{certificate.serial_number:x}"
    fresh.mkdir(mode=0o700)
    _write(fresh / "edge.key", _pem(key))
    _write(fresh / "edge.crt", certificate.public_bytes(serialization.Encoding.PEM))
    swap = folder / "next"
    swap.unlink(missing_ok=True)
    swap.symlink_to(fresh.name)
    swap.rename(folder / CURRENT)
    if old:
        shutil.rmtree(folder / old, ignore_errors=True)


def secret(folder: Path) -> Json:
    """The SDS answer that names the files."""
    current = folder.absolute() / CURRENT
    certificate = {
        "certificate_chain": {"filename": str(current / "edge.crt")},
        "private_key": {"filename": str(current / "edge.key")},
        "watched_directory": {"path": str(folder.absolute())},
    }
    message = typed(
        "envoy.extensions.transport_sockets.tls.v3.Secret", name="edge", tls_certificate=certificate
    )
    return {"resources": [message]}


def _make_ca(folder: Path, now: datetime) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = "Weft development CA"
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        _builder(name, _name(name), key, now, CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    _write(folder / "ca.key", _pem(key))
    _write(folder / "ca.crt", certificate.public_bytes(serialization.Encoding.PEM))


def _builder(
    name: str, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, content: bytes) -> None:
    """Writes a file that only its owner reads."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)


def _fresh(path: Path, now: datetime) -> bool:
    if not path.exists():
        return False
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    return certificate.not_valid_after_utc - RENEW_BEFORE > now
