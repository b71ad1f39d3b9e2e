"""Values sealed at rest, and keys of one purpose each, so that no output of one can stand for another's."""

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES = 32
NONCE_BYTES = 12  # NIST SP 800-38D: what GCM takes without hashing; random, so a key serves 2^32 values.


class BrokenSeal(Exception):
    """A sealed value does not open: another key sealed it, it was changed, or it was moved."""


class Seal:
    """Seals with AES-256-GCM under one key."""

    def __init__(self, key: bytes) -> None:
        """`key` has KEY_BYTES, as `derived` makes them."""
        self._aead = AESGCM(key)

    def seal(self, plain: bytes, about: bytes) -> bytes:
        """`about` names the place, so that a sealed value cannot be moved to another."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + self._aead.encrypt(nonce, plain, about)

    def open(self, sealed: bytes, about: bytes) -> bytes:
        """Raises BrokenSeal."""
        try:
            return self._aead.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], about)
        except (InvalidTag, ValueError):
            raise BrokenSeal(about) from None


def derived(root: bytes, purpose: str) -> bytes:
    """A key of KEY_BYTES for one purpose (HKDF-SHA256, RFC 5869). `root` has as much entropy, or more."""
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=purpose.encode()).derive(root)
