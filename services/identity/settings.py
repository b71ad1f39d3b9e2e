"""Settings of identity; the prefix is WEFT_IDENTITY_."""

import base64
from dataclasses import dataclass

from services.chassis.config import BadSetting, setting

PREFIX = "WEFT_IDENTITY_"
DEVELOPMENT_KEY = base64.b64encode(b"development-only, 32 bytes long.").decode()


@dataclass(frozen=True, kw_only=True)
class IdentitySettings:
    """What an operator may decide."""

    encryption_key: str = setting(
        "Seals private keys and authenticator secrets, derives mailed codes: 32 random bytes in base64.",
        DEVELOPMENT_KEY,
    )
    bootstrap_email: str = setting("Address of the first administrator (empty: none is made).", "")
    bootstrap_password: str = setting("The first administrator's password; used while there is none.", "")
    common_passwords_file: str = setting("Passwords to refuse, one a line, plain or .gz.", "")
    disposable_domains_file: str = setting(
        "Mail domains to refuse at registration, one a line, plain or .gz.", ""
    )
    password_chars_min: int = setting("Shortest password that stands alone (NIST 800-63B-4: 15).", 15)
    password_chars_min_mfa: int = setting("Shortest password beside a second factor (NIST 800-63B-4: 8).", 8)
    argon2_concurrency: int = setting("Argon2 computations at once; each takes 64 MiB by default.", 2)
    argon2_memory_kib: int = setting("Memory of one Argon2id computation (RFC 9106: 64 MiB).", 65_536)
    argon2_passes: int = setting("Passes of one Argon2id computation (RFC 9106: 3).", 3)
    lockout_after: int = setting("Consecutive failures before an account rests.", 10)
    lockout_s_min: int = setting("First rest; doubles with each further failure.", 30)
    lockout_s_max: int = setting("Longest rest.", 3600)
    failures_max: int = setting("Consecutive failures after which only a reset helps (NIST: 100).", 100)
    address_failures_max: int = setting("Failures from one IP address in ten minutes.", 100)
    access_s: int = setting("Life of an access token.", 300)
    session_days: int = setting("Life of a session, whatever is refreshed.", 30)
    key_rotation_days: int = setting("How long a signing key signs.", 30)
    key_lead_s: int = setting("How long a signing key is published before it signs.", 900)
    code_hours: int = setting("Life of a mailed code to confirm an address.", 24)
    reset_minutes: int = setting("Life of a mailed code to set a password.", 30)
    mail_hourly_max: int = setting("Mails that requests may cause to one address in an hour.", 5)
    heartbeat_s: float = setting(
        "Silence of an activity stream before a sign of life; proxies drop what is silent for a minute.", 15.0
    )
    totp_issuer: str = setting("Name that authenticator apps show.", "Weft")

    def __post_init__(self) -> None:
        if not 8 <= self.password_chars_min_mfa <= self.password_chars_min <= 64:
            raise BadSetting(f"{PREFIX}PASSWORD_CHARS_MIN must lie between 8 and 64, not below ..._MIN_MFA")
        if not 1 <= self.failures_max <= 100:
            raise BadSetting(f"{PREFIX}FAILURES_MAX must lie between 1 and 100")
        if self.argon2_concurrency < 1 or not 30 <= self.access_s <= 3600:
            raise BadSetting(f"{PREFIX}ARGON2_CONCURRENCY must be positive, ..._ACCESS_S within 30 and 3600")

    def refuse_development_key(self) -> None:
        """Raises BadSetting when the key is the one that everybody knows."""
        if self.encryption_key == DEVELOPMENT_KEY:
            raise BadSetting(f"{PREFIX}ENCRYPTION_KEY must be set (or WEFT_DEVELOPMENT=1 on a laptop)")
