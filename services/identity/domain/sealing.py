"""What is kept sealed, and codes derived from a key: the one use of the service's master key.

Every purpose has a key of its own.
"""

import base64
import binascii
import hashlib
import hmac

from services.chassis.sealing import KEY_BYTES, Seal, derived


class BadKey(ValueError):
    """The encryption key is not 32 bytes in base64."""


class Sealer:
    """Seals secrets at rest with AES-256-GCM and derives codes by HMAC-SHA256."""

    def __init__(self, key_base64: str) -> None:
        """Raises BadKey, which never shows the key."""
        try:
            key = base64.b64decode(key_base64, validate=True)
        except (binascii.Error, ValueError):
            raise BadKey(BadKey.__doc__) from None
        if len(key) != KEY_BYTES:
            raise BadKey(BadKey.__doc__)
        self._key = key
        self._seal = Seal(self._derive("seal"))
        self._macs: dict[str, bytes] = {}

    def seal(self, plain: bytes, about: str) -> bytes:
        """`about` names the place, so that a sealed value cannot be moved to another."""
        return self._seal.seal(plain, about.encode())

    def open(self, sealed: bytes, about: str) -> bytes:
        """Raises BrokenSeal."""
        return self._seal.open(sealed, about.encode())

    def mac(self, purpose: str, data: bytes) -> bytes:
        """32 bytes that only the holder of the key can make."""
        key = self._macs.setdefault(purpose, self._derive(f"mac:{purpose}"))
        return hmac.digest(key, data, "sha256")

    def _derive(self, purpose: str) -> bytes:
        return derived(self._key, f"weft.identity:{purpose}")


def digest(secret: bytes) -> bytes:
    """What is stored of a random secret of 128 bits or more: a plain hash suffices, unlike a password's."""
    return hashlib.sha256(secret).digest()
