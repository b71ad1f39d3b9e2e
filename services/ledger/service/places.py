"""Page tokens of statements: a place between two movements, and the balance there.

`chassis/listing.py` pages by columns of one table; a statement is two lists merged, with a running sum.
"""

import base64
import hmac
import json
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from services.chassis.listing import BadPageToken
from services.ledger.domain.statement import Movement
from weft.ledger.v1 import statement_pb2 as pb

MAC_BYTES = 16
TOKEN_CHARS_MAX = 2_048  # As the contract says; ours have some 150.


@dataclass(frozen=True, slots=True)
class Place:
    at: datetime
    sequence: int
    balance: int


class Places:
    """Signs tokens for one request, so that they open for no other."""

    def __init__(self, key: str) -> None:
        self._key = sha256(b"weft.ledger.v1 statement pages" + key.encode()).digest()

    def closed(self, request: pb.GetStatementRequest, last: Movement) -> str:
        text = json.dumps([last.effective_at.isoformat(), last.sequence, last.balance]).encode()
        return base64.urlsafe_b64encode(self._mac(request, text) + text).decode()

    def opened(self, request: pb.GetStatementRequest) -> Place | None:
        """None for the first page. Raises BadPageToken."""
        if not request.page_token:
            return None
        try:
            raw = base64.b64decode(request.page_token[:TOKEN_CHARS_MAX], b"-_", validate=True)
        except ValueError:
            raise BadPageToken from None
        if not hmac.compare_digest(raw[:MAC_BYTES], self._mac(request, raw[MAC_BYTES:])):
            raise BadPageToken
        at, sequence, balance = json.loads(raw[MAC_BYTES:])
        return Place(datetime.fromisoformat(at), sequence, balance)

    def _mac(self, request: pb.GetStatementRequest, text: bytes) -> bytes:
        bare = pb.GetStatementRequest()
        bare.CopyFrom(request)
        bare.ClearField("page_token")
        bare.ClearField("page_size")
        bound = bare.SerializeToString(deterministic=True)
        return hmac.digest(self._key, len(bound).to_bytes(4, "big") + bound + text, sha256)[:MAC_BYTES]
