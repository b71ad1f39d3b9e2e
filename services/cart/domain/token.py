"""What a guest shows to be let at a cart: random, and kept as its hash alone."""

import hashlib
import hmac
import secrets

TOKEN_BYTES = 32  # Nobody guesses 256 bits, so that a plain hash of them tells nothing.


def new() -> str:
    return secrets.token_urlsafe(TOKEN_BYTES)


def digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def opens(token: str, kept: bytes | None) -> bool:
    return bool(token) and kept is not None and hmac.compare_digest(digest(token), kept)
