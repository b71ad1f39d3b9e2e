"""Memos: words about a person, encrypted under that person's own key."""

import hmac
import secrets
from hashlib import sha256
from uuid import UUID

from services.chassis.sealing import KEY_BYTES, BrokenSeal, Seal


def new_key() -> bytes:
    return secrets.token_bytes(KEY_BYTES)


def seal(key: bytes, memo: str, transfer_id: UUID) -> bytes:
    return Seal(key).seal(memo.encode(), transfer_id.bytes)


def opened(key: bytes | None, sealed: bytes | None, transfer_id: UUID) -> str:
    """The memo; empty where there is none, or no key any more."""
    if key is None or sealed is None:
        return ""
    try:
        return Seal(key).open(sealed, transfer_id.bytes).decode()
    except BrokenSeal:
        return ""


def digest(body: bytes, memo: str, key: bytes | None) -> bytes:
    """Of what a caller asked for. A memo enters by its owner's key: nobody can guess it from the digest."""
    keyed = hmac.digest(key, memo.encode(), sha256) if memo and key else b""
    return sha256(body + keyed).digest()
