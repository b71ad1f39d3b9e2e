"""How often one may try: consecutive failures of an account, and counts within a window."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.orm import Mapped, mapped_column

from services.chassis.errors import ResourceExhausted
from services.identity.domain.row import Row
from services.identity.domain.sealing import Sealer

FOREVER = datetime.fromisoformat("9999-01-01T00:00:00+00:00")  # Until the password is reset.
KEPT_DAYS = 30  # How long a count is remembered that nobody adds to.


class TooManyAttempts(ResourceExhausted):
    """Too many attempts from here; try again later."""

    retry_after_s = 60.0


class Attempts(Row):
    """A count. Its key is an HMAC, so that the table tells no address."""

    __tablename__ = "attempts"
    key: Mapped[bytes] = mapped_column(primary_key=True)
    count: Mapped[int]
    since: Mapped[datetime]
    last_at: Mapped[datetime]
    locked_until: Mapped[datetime | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Rests between consecutive failures: none at first, then doubling, then for ever.

    An attempt counts when it begins, so that a burst of parallel guesses gets no more of them; a
    success forgets the count. An attempt during a rest is not looked at and does not count, so that
    nobody can keep an owner out longer than by failing.
    """

    after: int
    rest_s_min: int
    rest_s_max: int
    failures_max: int

    def locked_until(self, count: int, now: datetime) -> datetime | None:
        """When the next attempt is looked at, after `count` consecutive ones without success."""
        if count >= self.failures_max:
            return FOREVER
        if count < self.after:
            return None
        doublings = min(count - self.after, 30)
        return now + timedelta(seconds=min(self.rest_s_max, self.rest_s_min << doublings))


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """At most `count` within `seconds`."""

    count: int
    seconds: int


def key(sealer: Sealer, kind: str, name: str) -> bytes:
    return sealer.mac(f"attempts:{kind}", name.encode())
