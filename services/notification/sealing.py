"""Keys of this service's own, derived from one secret: to seal values, and to sign what comes back."""

import base64
import hmac
import json
from collections.abc import Mapping
from hashlib import sha256
from uuid import UUID

from services.chassis.sealing import BrokenSeal, Seal, derived

TOKEN_MAC_BYTES = 16  # 128 bits cannot be guessed.
MARK_BYTES = 8  # Of a Message-ID: a forged bounce needs 2^63 tries, each a mail.


class Sealing:
    """Seals and signs with keys that the database does not hold."""

    def __init__(self, secret: str) -> None:
        root = secret.encode()
        self._values = Seal(_derived(root, "values"))
        self._body, self._token, self._mark = (_derived(root, use) for use in ("body", "unsubscribe", "mark"))

    def seal(self, values: Mapping[str, str], message_id: UUID) -> bytes:
        """Readable only for the same message."""
        return self._values.seal(json.dumps(dict(values)).encode(), message_id.bytes)

    def unseal(self, sealed: bytes, message_id: UUID) -> dict[str, str]:
        """Raises ValueError when the key or the message is another one."""
        try:
            plain = self._values.open(sealed, message_id.bytes)
        except BrokenSeal:
            raise ValueError("sealed with another key") from None
        values: dict[str, str] = json.loads(plain)
        return values

    def body_mac(self, body: bytes) -> bytes:
        """Keyed, because a body may hold a code of six digits, which a plain hash would give away."""
        return hmac.digest(self._body, body, sha256)

    def mark(self, message_id: UUID) -> str:
        """Shows in a Message-ID that it is ours; hexadecimal."""
        return hmac.digest(self._mark, message_id.bytes, sha256)[:MARK_BYTES].hex()

    def token(self, message_id: UUID) -> str:
        """Lets whoever got the message unsubscribe; URL-safe."""
        mac = hmac.digest(self._token, message_id.bytes, sha256)[:TOKEN_MAC_BYTES]
        return base64.urlsafe_b64encode(message_id.bytes + mac).decode().rstrip("=")

    def message_of(self, token: str) -> UUID | None:
        """The message that `token` came with; None when it is none of ours."""
        try:
            raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        except ValueError:
            return None
        if len(raw) != 16 + TOKEN_MAC_BYTES:
            return None
        message_id = UUID(bytes=raw[:16])
        return message_id if hmac.compare_digest(self.token(message_id), token) else None


def _derived(root: bytes, use: str) -> bytes:
    return derived(root, f"weft.notification.{use}")
