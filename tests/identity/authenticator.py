"""A passkey authenticator in software: WebAuthn Level 3, attestation none, ES256."""

import base64
import hashlib
import json
import secrets
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.hashes import SHA256
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct

ORIGIN, RP_ID = "https://localhost:8443", "localhost"
PRESENT, VERIFIED, ATTESTED = 0x01, 0x04, 0x40


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass
class Authenticator:
    """Holds one key; what it says of itself can be changed to lie."""

    origin: str = ORIGIN
    rp_id: str = RP_ID
    flags: int = PRESENT | VERIFIED
    counter: int = 0
    counts: bool = True
    cross_origin: bool = False
    key: EllipticCurvePrivateKey = field(default_factory=lambda: generate_private_key(SECP256R1()))
    credential_id: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    handle: bytes = b""

    def create(self, options: Struct) -> Struct:
        """RegistrationResponseJSON to PublicKeyCredentialCreationOptionsJSON."""
        asked = MessageToDict(options)
        self.handle = unb64(asked["user"]["id"])
        attested = bytes(16) + len(self.credential_id).to_bytes(2, "big") + self.credential_id + self._cose()
        data = self._data(self.flags | ATTESTED) + attested
        attestation = b"\xa3" + _text("fmt") + _text("none") + _text("attStmt") + b"\xa0"
        attestation += _text("authData") + _bytes(data)
        response = {
            "clientDataJSON": b64(self._client("webauthn.create", asked["challenge"])),
            "attestationObject": b64(attestation),
            "transports": ["internal", "hybrid"],
        }
        return self._credential(response)

    def get(self, options: Struct) -> Struct:
        """AuthenticationResponseJSON to PublicKeyCredentialRequestOptionsJSON."""
        client = self._client("webauthn.get", MessageToDict(options)["challenge"])
        self.counter += self.counts
        data = self._data(self.flags)
        signature = self.key.sign(data + hashlib.sha256(client).digest(), ECDSA(SHA256()))
        response = {
            "clientDataJSON": b64(client),
            "authenticatorData": b64(data),
            "signature": b64(signature),
            "userHandle": b64(self.handle),
        }
        return self._credential(response)

    def _credential(self, response: dict[str, Any]) -> Struct:
        message = Struct()
        message.update(
            {
                "id": b64(self.credential_id),
                "rawId": b64(self.credential_id),
                "type": "public-key",
                "response": response,
                "clientExtensionResults": {},
            }
        )
        return message

    def _client(self, kind: str, challenge: str) -> bytes:
        said = {"type": kind, "challenge": challenge, "origin": self.origin, "crossOrigin": self.cross_origin}
        return json.dumps(said).encode()

    def _data(self, flags: int) -> bytes:
        return hashlib.sha256(self.rp_id.encode()).digest() + bytes([flags]) + self.counter.to_bytes(4, "big")

    def _cose(self) -> bytes:
        """An EC2 key on P-256 for ES256, in CBOR."""
        numbers = self.key.public_key().public_numbers()
        x, y = numbers.x.to_bytes(32, "big"), numbers.y.to_bytes(32, "big")
        return b"\xa5\x01\x02\x03\x26\x20\x01\x21" + _bytes(x) + b"\x22" + _bytes(y)


def _text(text: str) -> bytes:
    return bytes([0x60 + len(text)]) + text.encode()


def _bytes(data: bytes) -> bytes:
    size = b"\x58" + bytes([len(data)]) if len(data) < 256 else b"\x59" + len(data).to_bytes(2, "big")
    return size + data
