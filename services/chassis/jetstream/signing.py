"""Proof of who a client is: nkeys (Ed25519) and credentials files (a JWT and its seed)."""

import base64
import binascii
import re
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from services.chassis.jetstream.errors import Unauthorized

# An encoded seed, https://github.com/nats-io/nkeys: two bytes of prefix (5 bits `S`, 8 bits the kind of key,
# 3 bits nothing), 32 bytes of seed, two bytes of CRC-16 (XMODEM), little end first, all in base32.
SEED_BYTES = 2 + 32 + 2
SEED_PREFIX = 18 << 3
USER_PREFIX = 20 << 3
PARTS = re.compile(r"-+BEGIN ([A-Z ]+)-+\s+([A-Za-z0-9._=-]+)\s+-+END [A-Z ]+-+")
FILE_BYTES_MAX = 64 * 1024  # A JWT with many permissions takes a few KB.


class Key:
    """A user's key pair."""

    def __init__(self, seed: str) -> None:
        """Raises Unauthorized when `seed` is not the seed of a user; its text is never shown."""
        try:
            raw = base64.b32decode(seed.strip() + "=" * (-len(seed.strip()) % 8))
        except binascii.Error:
            raise Unauthorized("the nkey seed is not base32") from None
        if len(raw) != SEED_BYTES or binascii.crc_hqx(raw[:-2], 0) != int.from_bytes(raw[-2:], "little"):
            raise Unauthorized("the nkey seed is damaged")
        if raw[0] & 0xF8 != SEED_PREFIX or (raw[0] & 7) << 5 | raw[1] >> 3 != USER_PREFIX:
            raise Unauthorized("the nkey seed is not a user's")
        self._private = Ed25519PrivateKey.from_private_bytes(raw[2:-2])

    @property
    def public(self) -> str:
        """As servers are configured with it: `U...`."""
        raw = self._private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        body = bytes([USER_PREFIX]) + raw
        check = binascii.crc_hqx(body, 0).to_bytes(2, "little")
        return base64.b32encode(body + check).decode().rstrip("=")

    def sign(self, nonce: str) -> str:
        """What the server checks: the signature of its nonce, as CONNECT carries it."""
        return base64.urlsafe_b64encode(self._private.sign(nonce.encode())).decode().rstrip("=")


def by_nkey(seed: str, nonce: str) -> dict[str, Any]:
    """Fields of CONNECT for a user whose public key the server knows."""
    key = Key(seed)
    return {"nkey": key.public, "sig": key.sign(nonce)}


def by_credentials(path: str, nonce: str) -> dict[str, Any]:
    """Fields of CONNECT for a user of an operator; read each time, for the file may have been renewed."""
    try:
        with Path(path).open("rb") as file:
            text = file.read(FILE_BYTES_MAX).decode(errors="replace")
    except OSError as error:
        raise Unauthorized(f"the credentials file cannot be read: {error.strerror}") from None
    parts = dict(PARTS.findall(text))
    if not {"NATS USER JWT", "USER NKEY SEED"} <= parts.keys():
        raise Unauthorized("the credentials file holds no JWT and seed of a user")
    return {"jwt": parts["NATS USER JWT"], "sig": Key(parts["USER NKEY SEED"]).sign(nonce)}
