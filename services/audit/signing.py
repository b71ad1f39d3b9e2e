"""Anchors' signatures: Ed25519 (RFC 8032), so that whoever checks needs no secret."""

import base64
import binascii
import hashlib
from collections.abc import Sequence

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from services.audit.domain import Anchor
from services.chassis.config import BadSetting

KEY_BYTES = 32
KEY_ID_CHARS = 16


class Signing:
    """Signs with one key, believes that one and its predecessors."""

    def __init__(self, key: str, former_keys: Sequence[str], mesh_key: str) -> None:
        seed = _decoded("WEFT_AUDIT_ANCHOR_KEY", key) if key else _derived(mesh_key)
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        former = [_decoded("WEFT_AUDIT_ANCHOR_FORMER_KEYS", text) for text in former_keys]
        public = [self._private.public_key().public_bytes_raw(), *former]
        self._public = {key_id(raw): Ed25519PublicKey.from_public_bytes(raw) for raw in public}
        self._key_id = key_id(public[0])

    def sign(self, anchor: Anchor) -> None:
        anchor.key_id = self._key_id
        anchor.signature = self._private.sign(anchor.signed())

    def signed(self, anchor: Anchor) -> bool:
        """Whether one of our keys signed it as it is."""
        public = self._public.get(anchor.key_id)
        if public is None:
            return False
        try:
            public.verify(anchor.signature, anchor.signed())
        except InvalidSignature:
            return False
        return True


def key_id(public: bytes) -> str:
    return hashlib.sha256(public).hexdigest()[:KEY_ID_CHARS]


def _decoded(variable: str, text: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except binascii.Error:
        raw = b""
    if len(raw) != KEY_BYTES:
        raise BadSetting(f"{variable} must hold {KEY_BYTES} bytes in base64")
    return raw


def _derived(mesh_key: str) -> bytes:
    return HKDF(SHA256(), KEY_BYTES, salt=None, info=b"weft.audit.anchor").derive(mesh_key.encode())
