"""Secrets at rest, sealed with the service's key."""

from services.chassis.sealing import Seal, derived


class Sealer:
    """Seals secrets of webhooks."""

    def __init__(self, key: str) -> None:
        """`key` has 32 bytes of entropy or more; the sealing key is derived from it."""
        self._seal = Seal(derived(key.encode(), "weft.scheduler:seal"))

    def seal(self, plain: bytes, about: str) -> bytes:
        """`about` names the place, so that a sealed value cannot be moved to another."""
        return self._seal.seal(plain, about.encode())

    def open(self, sealed: bytes, about: str) -> bytes:
        """Raises BrokenSeal."""
        return self._seal.open(sealed, about.encode())
