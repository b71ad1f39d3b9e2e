"""Secrets at rest, sealed with the service's key."""

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES = 32
NONCE_BYTES = 12  # NIST SP 800-38D: the nonce length that GCM takes without hashing.


class BrokenSeal(Exception):
    """A sealed value does not open: another key sealed it, or it was changed."""


class Sealer:
    """Seals with AES-256-GCM."""

    def __init__(self, key: str) -> None:
        """`key` has 32 bytes of entropy or more; the sealing key is derived from it."""
        derive = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=b"weft.scheduler:seal")
        self._aead = AESGCM(derive.derive(key.encode()))

    def seal(self, plain: bytes, about: str) -> bytes:
        """`about` names the place, so that a sealed value cannot be moved to another."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + self._aead.encrypt(nonce, plain, about.encode())

    def open(self, sealed: bytes, about: str) -> bytes:
        """Raises BrokenSeal."""
        try:
            return self._aead.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], about.encode())
        except (InvalidTag, ValueError):
            raise BrokenSeal(about) from None
