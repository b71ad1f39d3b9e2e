"""Secrets at rest, sealed with the service's key."""

import base64
import binascii
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES = 32
NONCE_BYTES = 12  # NIST SP 800-38D: the nonce length that GCM takes without hashing.


class BadKey(ValueError):
    """The encryption key is not 32 bytes in base64."""


class BrokenSeal(Exception):
    """A sealed value does not open: another key sealed it, or it was changed."""


class Sealer:
    """Seals with AES-256-GCM."""

    def __init__(self, key_base64: str) -> None:
        """Raises BadKey, which never shows the key."""
        try:
            key = base64.b64decode(key_base64, validate=True)
        except (binascii.Error, ValueError):
            raise BadKey(BadKey.__doc__) from None
        if len(key) != KEY_BYTES:
            raise BadKey(BadKey.__doc__)
        derived = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=b"weft.scheduler:seal").derive(
            key
        )
        self._aead = AESGCM(derived)

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
