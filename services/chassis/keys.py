"""The issuer's public keys in every process, by way of a JetStream KV bucket.

Whoever issues tokens publishes its JWK Set here; every verifier hears of it at once and keeps the last
set while the issuer or the bus is away.
"""

from __future__ import annotations

import json
from typing import Any

from services.chassis.bus import Bus
from services.chassis.caller import Verifier

BUCKET, KEY = "weft_keys", "jwks"
PRIVATE = {"d", "p", "q", "dp", "dq", "qi", "k"}  # RFC 7518 §6: members that must never be published.


class Keys:
    """Publishes and follows the JWK Set."""

    def __init__(self, bus: Bus, verifier: Verifier) -> None:
        self._bus, self._verifier = bus, verifier

    async def open(self) -> None:
        """Makes the bucket if there is none, and takes the set that is there."""
        self._bucket = await self._bus.kv(BUCKET)
        current = await self._bucket.get(KEY)
        if current is not None:
            self._verifier.use_keys(current.decode())

    async def publish(self, jwks: dict[str, Any]) -> None:
        """Replaces the set for all. Refuses a set with a private member."""
        assert not any(PRIVATE & set(key) for key in jwks["keys"]), "a private key would be published"
        text = json.dumps(jwks, sort_keys=True)
        if await self._bucket.get(KEY) != text.encode():
            await self._bucket.put(KEY, text.encode())
        self._verifier.use_keys(text)

    async def watch(self) -> None:
        """Follows the set for ever."""
        async for value in self._bucket.watch(KEY):
            self._verifier.use_keys(value.decode())
