"""This service's settings; the prefix is WEFT_NOTIFICATION_."""

from dataclasses import dataclass
from email.utils import parseaddr

from services.chassis.config import BadSetting, setting

TLS = ("none", "starttls", "tls")
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, kw_only=True)
class NotificationSettings:
    """How messages leave."""

    smtp_host: str = setting("The relay that takes our mail. With `mailbox` it is not used.", "127.0.0.1")
    smtp_port: int = setting("Its port: 587 with starttls, 465 with tls.", 2525)
    smtp_tls: str = setting("none, starttls (required, not merely tried) or tls.", "none")
    smtp_user: str = setting("User at the relay; empty: none.", "")
    smtp_password: str = setting("Its password.", "")
    smtp_ca_file: str = setting("CA that signed the relay's certificate; empty: the system's.", "")
    smtp_helo: str = setting("Our name at the relay; empty: the host's.", "")
    smtp_timeout_s: float = setting("Seconds an attempt may take in all.", 30.0)
    smtp_connections_max: int = setting("Connections to the relay, and so attempts at once.", 4)
    sender: str = setting("The From of every mail: `Name <address>`.", "Weft <no-reply@weft.example>")
    bounce_address: str = setting(
        "Where undeliverable mail comes back (envelope sender); empty: to `sender`.", ""
    )
    product: str = setting("What our mails call us.", "Weft")
    unsubscribe_url: str = setting("Prefix of unsubscribe links; empty: the edge's.", "")
    quiet_hours: str = setting(
        "When only security messages go out, `22:00-08:00` by the reader; empty: never.", ""
    )
    attempts_max: int = setting(
        "Attempts before a message fails: with the defaults after about three hours.", 10
    )
    retry_first_s: float = setting(
        "Seconds before the second attempt; each later one waits three times longer.", 5.0
    )
    retry_max_s: float = setting("Seconds between two attempts at most.", 3600.0)
    lease_s: float = setting("Seconds until an attempt that was never finished counts as dead.", 90.0)
    values_kept_s: float = setting(
        "Seconds that a settled message's values are kept, to send it once more.", 3600.0
    )
    key: str = setting("Secret that seals values and signs links; empty: the mesh key.", "")
    mailbox: bool = setting("Keep all mail in the developer's mailbox instead of sending it.", False)
    mailbox_address: str = setting("Where the mailbox takes mail by SMTP (host:port).", "127.0.0.1:2525")

    def __post_init__(self) -> None:
        if self.smtp_tls not in TLS:
            raise BadSetting(f"WEFT_NOTIFICATION_SMTP_TLS must be one of {', '.join(TLS)}")
        if self.smtp_password and self.smtp_tls == "none" and self.smtp_host not in LOOPBACK:
            raise BadSetting("WEFT_NOTIFICATION_SMTP_TLS must not be none where a password is sent")
        if "@" not in parseaddr(self.sender)[1]:
            raise BadSetting("WEFT_NOTIFICATION_SENDER must be `Name <address>`")
        if self.lease_s <= self.smtp_timeout_s:
            raise BadSetting("WEFT_NOTIFICATION_LEASE_S must be longer than WEFT_NOTIFICATION_SMTP_TIMEOUT_S")
        if self.attempts_max < 1 or self.smtp_connections_max < 1:
            raise BadSetting("WEFT_NOTIFICATION_ATTEMPTS_MAX and _SMTP_CONNECTIONS_MAX must be at least 1")
