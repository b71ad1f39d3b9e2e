"""What gateways gave us, sealed at rest, and keyed hashes that tell one request from another."""

import hmac
import json
from hashlib import sha256
from uuid import UUID

from services.chassis.sealing import Seal, derived
from services.payment.domain.remote import Source


class Sealer:
    """One key for each purpose, of one secret."""

    def __init__(self, secret: str) -> None:
        """`secret` has 32 bytes of entropy or more."""
        root = secret.encode()
        self._seal = Seal(derived(root, "weft.payment:seal"))
        self._mac = derived(root, "weft.payment:mac")

    def source(self, source: Source, owner: UUID) -> bytes:
        """`owner` is the payment or the method: a sealed source cannot be moved to another."""
        return self.text(json.dumps([source.token, source.customer]), owner)

    def open_source(self, sealed: bytes, owner: UUID) -> Source:
        """Raises BrokenSeal."""
        return Source(*json.loads(self.open_text(sealed, owner)))

    def text(self, text: str, owner: UUID) -> bytes:
        return self._seal.seal(text.encode(), owner.bytes)

    def open_text(self, sealed: bytes, owner: UUID) -> str:
        """Raises BrokenSeal."""
        return self._seal.open(sealed, owner.bytes).decode()

    def mac(self, data: bytes) -> bytes:
        return hmac.digest(self._mac, data, sha256)
