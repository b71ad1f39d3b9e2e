"""Where the servers of a channel listen: given once, or followed as it changes.

An address is `host:port`, `[v6]:port`, `unix:path` or `unix-abstract:name`; before the first two may stand
the schemes dns, ipv4 and ipv6 of gRPC's naming document.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

ENDPOINTS_MAX = (
    1_000  # Each may hold connections: more are a mistake, or want a subset chosen for each client.
)

Listener = Callable[[Sequence[str]], None]


class Endpoints(Protocol):
    """What a channel connects to; a registry of services can be one."""

    def follow(self, listener: Listener) -> Callable[[], None]:
        """Tells `listener` the addresses now and whenever they change, until the returned function is called.

        To be called, and to call, in the channel's event loop.
        """


class Fixed:
    """Addresses that stay."""

    def __init__(self, *addresses: str) -> None:
        self._addresses = checked(addresses)

    def follow(self, listener: Listener) -> Callable[[], None]:
        listener(self._addresses)
        return _nothing


class Live:
    """Addresses that are changed by `update`."""

    def __init__(self, addresses: Sequence[str] = ()) -> None:
        self._addresses = checked(addresses)
        self._listeners: list[Listener] = []

    def update(self, addresses: Sequence[str]) -> None:
        """Calls under way on an address that went go on; new ones go elsewhere."""
        self._addresses = checked(addresses)
        for listener in tuple(self._listeners):
            listener(self._addresses)

    def follow(self, listener: Listener) -> Callable[[], None]:
        self._listeners.append(listener)
        listener(self._addresses)
        return lambda: self._listeners.remove(listener)


class Place(NamedTuple):
    """An address, taken apart; of a Unix socket only `path` is set."""

    host: str
    port: int
    path: str = ""


def checked(addresses: Sequence[str]) -> tuple[str, ...]:
    """In their order, each once. Raises ValueError for what is no address."""
    found = tuple(dict.fromkeys(addresses))
    if len(found) > ENDPOINTS_MAX:
        raise ValueError(f"{len(found)} endpoints: at most {ENDPOINTS_MAX} are connected to")
    for address in found:
        place(address)
    return found


def place(address: str) -> Place:
    """Raises ValueError."""
    scheme, _, rest = address.partition(":")
    if scheme in ("unix", "unix-abstract"):
        path = rest.removeprefix("//") if scheme == "unix" else "\0" + rest
        if not rest:
            raise ValueError(f"{address!r}: a path is wanted after {scheme}:")
        return Place("", 0, path)
    for scheme in ("dns:", "ipv4:", "ipv6:"):
        address = address.removeprefix(scheme).removeprefix("///")
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isdecimal() and 0 < int(port) < 65_536):
        raise ValueError(f"{address!r}: host:port or unix:path is wanted")
    return Place(host.removeprefix("[").removesuffix("]"), int(port))


def _nothing() -> None:
    """There is nothing to stop."""
