"""Keys that sign access tokens: which one signs now, and which are published.

A key is published a lead before it signs, so that every verifier has it in time; and after its last
token it stays published until that token is dead.
"""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from joserfc.jwk import ECKey
from sqlalchemy.orm import Mapped, mapped_column

from services.chassis.errors import Unavailable
from services.identity.domain.row import Row
from services.identity.domain.sealing import Sealer
from services.identity.domain.token import ACCESS_S_MAX

SKEW_S = 300  # Clocks of verifiers differ, and the edge keeps a key set for minutes.
PUBLIC = ("kty", "crv", "x", "y", "alg", "use", "kid")


class NoSigningKey(Unavailable):
    """No key signs tokens yet."""


class SigningKey(Row):
    """A key pair on P-256."""

    __tablename__ = "signing_key"
    kid: Mapped[str] = mapped_column(primary_key=True)
    public: Mapped[dict[str, Any]]
    sealed: Mapped[bytes]  # The private JWK.
    created_at: Mapped[datetime]
    signs_from: Mapped[datetime]
    dropped_at: Mapped[datetime | None]  # Compromised: out at once.


def made(sealer: Sealer, now: datetime, signs_from: datetime) -> SigningKey:
    """A new key pair, its private half sealed."""
    key = ECKey.generate_key("P-256", {"alg": "ES256", "use": "sig"}, auto_kid=True)
    assert key.kid is not None
    whole, kid = key.as_dict(private=True), key.kid
    return SigningKey(
        kid=kid,
        public={name: whole[name] for name in PUBLIC},
        sealed=sealer.seal(json.dumps(whole).encode(), f"signing_key:{kid}"),
        created_at=now,
        signs_from=signs_from,
        dropped_at=None,
    )


def private(key: SigningKey, sealer: Sealer) -> ECKey:
    return ECKey.import_key(json.loads(sealer.open(key.sealed, f"signing_key:{key.kid}")))


def signer(keys: Sequence[SigningKey], now: datetime) -> SigningKey | None:
    """The newest that may sign by now."""
    ready = [key for key in keys if key.dropped_at is None and key.signs_from <= now]
    return max(ready, key=lambda key: (key.signs_from, key.kid), default=None)


def successor(keys: Sequence[SigningKey], now: datetime) -> SigningKey | None:
    """One that is published and will sign later."""
    return next((key for key in keys if key.dropped_at is None and key.signs_from > now), None)


def published(keys: Sequence[SigningKey], now: datetime) -> list[SigningKey]:
    """The signer, those to come, and those whose last token may live still; oldest first."""
    current = signer(keys, now)
    alive = [key for key in keys if key.dropped_at is None]
    by_age = sorted(alive, key=lambda key: (key.signs_from, key.kid))
    if current is None:
        return by_age
    lasting = timedelta(seconds=ACCESS_S_MAX + SKEW_S)
    kept = []
    for key, follower in zip(by_age, [*by_age[1:], None], strict=True):
        if follower is None or follower.signs_from > now or now < follower.signs_from + lasting:
            kept.append(key)
    return kept


def due(keys: Sequence[SigningKey], now: datetime, rotation: timedelta, lead: timedelta) -> datetime | None:
    """When a next key should begin to sign, if it is time to make it. None: not yet."""
    current = signer(keys, now)
    if current is None:
        return now
    ends = current.signs_from + rotation
    return max(ends, now + lead) if successor(keys, now) is None and now >= ends - lead else None
