"""The servers of one cluster: those that were configured, those that they told of, and which to try next."""

import ipaddress
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from services.chassis.jetstream import signing
from services.chassis.jetstream.errors import Unauthorized

PORT = 4222
SERVERS_MAX = 64  # A cluster that tells of more is misconfigured; who was configured always stays.
SCHEMES = ("nats", "tls")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Where to connect, as whom, and how. Secrets are not shown."""

    servers: Sequence[str]  # nats://host:port or tls://host:port, without credentials.
    name: str = "weft"  # What the server calls the connection in its lists and advisories.
    user: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    nkey_seed: str = field(default="", repr=False)
    credentials: str = ""  # Path of a credentials file.
    tls: ssl.SSLContext | None = field(default=None, repr=False)  # None: the system's, when the server asks.
    tls_first: bool = False  # The server's `handshake_first`: TLS before anything else.

    @classmethod
    def of(cls, url: str, **others: Any) -> "Options":
        """From comma separated URLs, of which the first may hold `user:password@` or `token@`."""
        parts = [urlsplit(each if "://" in each else f"nats://{each}") for each in url.split(",")]
        first = parts[0]
        known: dict[str, Any] = {}
        if first.username and first.password is None:
            known["token"] = unquote(first.username)
        elif first.username:
            known |= {"user": unquote(first.username), "password": unquote(first.password or "")}
        bare = [f"{part.scheme}://{part.netloc.rpartition('@')[2]}" for part in parts]
        return cls(servers=bare, **(known | others))

    def proof(self, nonce: str) -> dict[str, Any]:
        """Fields of CONNECT that say who we are. Raises Unauthorized."""
        if self.credentials or self.nkey_seed:
            if not nonce:
                raise Unauthorized("the server does not ask for a signature")
            if self.credentials:
                return signing.by_credentials(self.credentials, nonce)
            return signing.by_nkey(self.nkey_seed, nonce)
        if self.token:
            return {"auth_token": self.token}
        return {"user": self.user, "pass": self.password} if self.user else {}


@dataclass(frozen=True)
class Server:
    """One address."""

    host: str
    port: int
    tls: bool = False  # Whether it must speak TLS, whatever it says itself.
    name: str = ""  # Whose certificate it shows; empty: that of `host`.

    @classmethod
    def of(cls, url: str) -> "Server":
        """Raises ValueError, naming the rule."""
        parts = urlsplit(url if "://" in url else f"nats://{url}")
        if parts.scheme not in SCHEMES or not parts.hostname:
            raise ValueError("a NATS server is given as nats://host:port or tls://host:port")
        return cls(parts.hostname, parts.port or PORT, parts.scheme == "tls")

    @property
    def address(self) -> tuple[str, int]:
        return self.host, self.port


class Servers:
    """Tried in turn, the one that failed last comes last."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._configured = [Server.of(url) for url in urls]
        if not self._configured:
            raise ValueError("no NATS server is configured")
        self._order = list(self._configured)

    def __len__(self) -> int:
        return len(self._order)

    def heard(self, urls: Sequence[str]) -> None:
        """A server told which there are now: host:port each. Forgets those that nobody told of any more."""
        like = self._configured[0]
        told = [Server.of(url) for url in urls[:SERVERS_MAX]]
        told = [Server(each.host, each.port, like.tls, _certified(each, like)) for each in told]
        addresses = {each.address for each in (*told, *self._configured)}
        self._order = [each for each in self._order if each.address in addresses]
        known = {each.address for each in self._order}
        self._order += [each for each in told if each.address not in known]

    def round(self) -> list[Server]:
        """All, in the order in which to try them."""
        return list(self._order)

    def last(self, server: Server) -> None:
        """It failed, or is about to: others first."""
        if server in self._order:
            self._order.remove(server)
            self._order.append(server)


def _certified(told: Server, like: Server) -> str:
    """Whose certificate a server shows that told only its address: the name we know the cluster by."""
    try:
        ipaddress.ip_address(told.host)
    except ValueError:
        return ""
    return like.name or like.host
