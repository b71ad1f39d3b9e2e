"""Values that are dear to load, kept in this process and, for all processes, in a NATS bucket.

What was loaded is dropped everywhere when `drop` is called (by the handler of the event that changed it) and
after `ttl_s` at the latest, save while the modes say that old values of its name do: then a value that was
not dropped serves STALE_S_MAX longer, and nobody is asked. A value that was being loaded while its key was
dropped is used once and kept nowhere. Without NATS the cache of the process works on, by itself; after an
outage it starts empty.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import nats.errors
import nats.js.errors
from nats.aio.msg import Msg

from services.chassis.bus import Bucket, Bus
from services.chassis.clock import Clock
from services.chassis.modes import Modes

T = TypeVar("T")

NEGATIVE_S_MAX = 5.0  # What is not there may come at any time, and nobody may tell.
STALE_S_MAX = 600.0  # What is older than that has become a lie, whatever is away.
SHARED_S_MAX = 0.25  # The bucket must answer faster than the owner of the value would.
FAULTS = (nats.errors.Error, nats.js.errors.Error, TimeoutError)
BUCKET = "weft_cache"


@dataclass(frozen=True, slots=True)
class _Kept(Generic[T]):
    value: T | None
    until: float


class Cache(Generic[T]):
    """One kind of value. `load` functions return None for what does not exist."""

    def __init__(
        self,
        bus: Bus,
        name: str,
        ttl_s: float,
        entries_max: int,
        dump: Callable[[T], bytes],
        parse: Callable[[bytes], T],
    ) -> None:
        self._bus, self._name, self._ttl_s, self._entries_max = bus, name, ttl_s, entries_max
        self._dump, self._parse = dump, parse
        self._clock = Clock()
        self.modes: Modes | None = None  # Whose word it is that old values do; without, they never do.
        self._kept: OrderedDict[str, _Kept[T]] = OrderedDict()
        self._flights: dict[str, asyncio.Task[T | None]] = {}
        self._shared: Bucket | None = None

    async def open(self) -> None:
        """Joins the other processes. Raises a NATS error or TimeoutError; the cache works all the same."""
        self._bus.on_reconnect(self._kept.clear)
        self._bus.on_reconnect(self._flights.clear)
        await self._bus.nc.subscribe(f"cache.{self._name}", cb=self._heard)
        self._shared = await self._bus.kv(f"{BUCKET}_{self._name}", ttl_s=self._ttl_s)

    async def get(self, key: str, load: Callable[[], Awaitable[T | None]]) -> T | None:
        """The value; `load` is awaited once for all who ask meanwhile, and its error is theirs."""
        kept = self._kept.get(key)
        if kept is not None and self._serves(kept):
            self._kept.move_to_end(key)
            return kept.value
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = asyncio.create_task(self._fly(key, load))
            flight.add_done_callback(lambda done: self._landed(key, done))
        return await asyncio.shield(flight)

    def _serves(self, kept: _Kept[T]) -> bool:
        now = self._clock.monotonic()
        if kept.until > now:
            return True
        if kept.value is None or self.modes is None or kept.until + STALE_S_MAX <= now:
            return False
        return self.modes.stale(self._name)

    def _landed(self, key: str, flight: asyncio.Task[T | None]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
        if not flight.cancelled():
            flight.exception()  # Seen, should all who asked be gone.

    async def _fly(self, key: str, load: Callable[[], Awaitable[T | None]]) -> T | None:
        me = asyncio.current_task()
        shared, revision = await self._from_shared(key)
        if shared is not None:
            value: T | None = self._parse(shared)
        else:
            value = await load()
            if value is not None and self._flights.get(key) is me:
                await self._to_shared(key, self._dump(value), revision)
        if self._flights.get(key) is me:
            self._keep(key, value)
        return value

    def _keep(self, key: str, value: T | None) -> None:
        age_s = self._ttl_s if value is not None else min(self._ttl_s, NEGATIVE_S_MAX)
        self._kept[key] = _Kept(value, self._clock.monotonic() + age_s)
        self._kept.move_to_end(key)
        while len(self._kept) > self._entries_max:
            self._kept.popitem(last=False)

    async def drop(self, key: str) -> None:
        """Everywhere; a process that cannot be reached drops all it has when it is back.

        Raises a NATS error or TimeoutError when the others could not be told: an event's handler should
        let it, and will be run again.
        """
        self._drop(key)
        if self._shared:
            await self._shared.delete(_safe(key))
            await self._bus.nc.publish(f"cache.{self._name}", key.encode())

    async def _heard(self, message: Msg) -> None:
        self._drop(message.data.decode())

    def _drop(self, key: str) -> None:
        self._kept.pop(key, None)
        self._flights.pop(key, None)

    async def _from_shared(self, key: str) -> tuple[bytes | None, int]:
        """The value, if any, and the revision that a value of ours may follow; -1: none may."""
        seen: tuple[bytes | None, int]
        seen = await self._unless_away(lambda bucket: bucket.look(_safe(key)), (None, -1))
        return seen

    async def _to_shared(self, key: str, value: bytes, revision: int) -> None:
        """Unless the key was dropped since `revision` was seen."""
        if revision >= 0:
            await self._unless_away(lambda bucket: bucket.follow(_safe(key), value, revision), None)

    async def _unless_away(self, ask: Callable[[Bucket], Awaitable[Any]], otherwise: Any) -> Any:
        if self._shared is None or not self._bus.nc.is_connected:
            return otherwise
        try:
            async with asyncio.timeout(SHARED_S_MAX):
                return await ask(self._shared)
        except FAULTS:
            return otherwise


def _safe(key: str) -> str:
    """A key of a bucket may hold few characters; its hash holds none of the others."""
    return hashlib.blake2b(key.encode(), digest_size=16).hexdigest()
