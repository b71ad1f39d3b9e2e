"""Second factors: authenticator apps (TOTP, RFC 6238) and recovery codes."""

import base64
import hmac
import io
import secrets
from datetime import datetime
from uuid import UUID

import pyotp
import segno
from sqlalchemy.orm import Mapped, mapped_column

from services.chassis.errors import FailedPrecondition, Unauthenticated
from services.identity.domain.row import Row
from services.identity.domain.sealing import Sealer

STEP_S = 30  # RFC 6238 §5.2's default, and the only one that all apps honour.
STEPS_AROUND = 1  # Clocks of phones drift: one step before and one after are good too.
SECRET_BYTES = 20  # RFC 4226 §4 R6: 160 bits.
CODES = 10  # Recovery codes that are given at once.
CODE_CHARS = 16  # Of 31 letters and digits: 79 bits.
CODE_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"  # None that look alike: i l o 0 1.
NEVER = -1  # Step of an app that has not been used.


class SecondStepRefused(Unauthenticated):
    """The code is not good."""


class TotpEnrolled(FailedPrecondition):
    """The account has an authenticator app already; remove it first."""


class TotpNotPending(FailedPrecondition):
    """No authenticator app waits for its first code."""


class TotpNotEnrolled(FailedPrecondition):
    """The account has no authenticator app."""


class NoSecondFactor(FailedPrecondition):
    """The account has no second factor."""


class Totp(Row):
    """An authenticator app. It counts once its first code was confirmed."""

    __tablename__ = "totp"
    user_id: Mapped[UUID] = mapped_column(primary_key=True)
    sealed: Mapped[bytes]
    last_step: Mapped[int]  # Of the newest code that was taken: neither it nor an older one is again.
    created_at: Mapped[datetime]
    confirmed_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]


class RecoveryCode(Row):
    """A code that stands in for a second factor, once."""

    __tablename__ = "recovery_code"
    hash: Mapped[bytes] = mapped_column(primary_key=True)
    user_id: Mapped[UUID]
    used_at: Mapped[datetime | None]


def pending(user_id: UUID, secret: str, sealer: Sealer, now: datetime) -> Totp:
    """An app that waits for its first code."""
    sealed = sealer.seal(secret.encode(), f"totp:{user_id}")
    return Totp(
        user_id=user_id, sealed=sealed, last_step=NEVER, created_at=now, confirmed_at=None, last_used_at=None
    )


def secret_of(totp: Totp, sealer: Sealer) -> str:
    return sealer.open(totp.sealed, f"totp:{totp.user_id}").decode()


def new_secret() -> str:
    """Base32."""
    return base64.b32encode(secrets.token_bytes(SECRET_BYTES)).decode()


def code_at(secret: str, step: int) -> str:
    """Six digits."""
    return pyotp.HOTP(secret).at(step)


def matching_step(secret: str, code: str, now: datetime) -> int | None:
    """The step whose code it is, among those that are good now. Compares all of them, whatever matches."""
    here = int(now.timestamp()) // STEP_S
    steps = range(here - STEPS_AROUND, here + STEPS_AROUND + 1)
    matches = [step for step in steps if hmac.compare_digest(code_at(secret, step), code)]
    return matches[-1] if matches else None


def uri(secret: str, account: str, issuer: str) -> str:
    """`otpauth://totp/...`, as apps read it (Google's Key Uri Format)."""
    return pyotp.TOTP(secret).provisioning_uri(name=account, issuer_name=issuer)


def qr_svg(text: str) -> str:
    """An SVG element, without XML declaration, so that a page can hold it."""
    picture = io.BytesIO()
    segno.make(text, error="m", micro=False).save(picture, kind="svg", scale=4, border=4, xmldecl=False)
    return picture.getvalue().decode()


def new_recovery_codes() -> list[str]:
    """`xxxx-xxxx-xxxx-xxxx`, without letters that look alike."""
    return ["-".join(_letters(4) for _ in range(CODE_CHARS // 4)) for _ in range(CODES)]


def _letters(count: int) -> str:
    return "".join(secrets.choice(CODE_ALPHABET) for _ in range(count))


def recovery_hash(sealer: Sealer, user_id: UUID, code: str) -> bytes:
    """What is stored of a recovery code. Blanks, hyphens and case do not matter."""
    plain = "".join(code.split()).replace("-", "").lower()
    return sealer.mac("recovery_code", user_id.bytes + plain.encode())
