"""Settings of passkeys, OAuth, API keys and outside providers; the prefix is identity's."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from services.chassis.config import BadSetting, setting
from services.identity.settings import PREFIX

EXCHANGED_S_MAX = 900  # A token that a revoked key was exchanged for lives no longer.


@dataclass(frozen=True, kw_only=True)
class FederationSettings:
    """What an operator may decide."""

    passkey_rp_id: str = setting("Domain that passkeys belong to; pages must be on it or below.", "localhost")
    passkey_rp_name: str = setting("Name that authenticators show.", "Weft")
    passkey_origins: tuple[str, ...] = setting(
        "Origins of pages that may use passkeys, comma separated (empty: the edge's, by that domain).", ()
    )
    api_key_token_s: int = setting("Life of the token that an API key is exchanged for.", 300)
    provider_callback: str = setting("Page that outside providers send people back to.", "/callback")

    def __post_init__(self) -> None:
        if not 30 <= self.api_key_token_s <= EXCHANGED_S_MAX:
            raise BadSetting(f"{PREFIX}API_KEY_TOKEN_S must lie between 30 and {EXCHANGED_S_MAX}")
        for origin in self.passkey_origins:
            host = urlsplit(origin).hostname or ""
            if host != self.passkey_rp_id and not host.endswith(f".{self.passkey_rp_id}"):
                raise BadSetting(f"{PREFIX}PASSKEY_ORIGINS must lie on {PREFIX}PASSKEY_RP_ID")

    def origins(self, edge_url: str) -> list[str]:
        """Where passkeys are taken from. Authenticators know domains only, so an address stands for one."""
        if self.passkey_origins:
            return list(self.passkey_origins)
        parts = urlsplit(edge_url)
        port = f":{parts.port}" if parts.port else ""
        return [f"{parts.scheme}://{self.passkey_rp_id}{port}"]
