"""The connection to NATS: streams of events, key-value buckets, and what both need to outlive an outage."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext, api
from nats.js.errors import (
    APIError,
    BadRequestError,
    BucketNotFoundError,
    KeyNotFoundError,
    NotFoundError,
    ServiceUnavailableError,
)
from nats.js.kv import KeyValue

PORT = 4222
CONNECT_S_MAX = 5.0
REQUEST_S_MAX = 5.0
CHECK_S_MAX = 1.0
SETTLE_S_MAX = 30.0  # An election takes up to 9 s, and a start makes many streams at once.
RECONNECT_WAIT_S = 0.2
PING_EVERY_S = 5  # A server that leaves three unanswered is gone, whatever TCP says: we connect anew.
DAY_S = 86_400.0
EVENTS_AGE_D_MAX = 30  # Streams are for delivery; the event tables keep everything.
DEAD_AGE_D_MAX = 365  # Somebody may come back to them.
DUPLICATE_WINDOW_S = 600.0  # A relay that died between publishing and noting it is back by then.
WATCH_REFRESH_S = 30.0  # A watched key is read again this often, should a notice have been lost.
DEAD = "dead"

T = TypeVar("T")

log = logging.getLogger("weft.bus")


class Bus:
    """One connection of one process; it reconnects for ever."""

    def __init__(self, url: str, *, replicas: int = 1) -> None:
        """`replicas` is how many servers of a cluster keep each stream and bucket."""
        self._servers, self._replicas = url.split(","), replicas
        self._nc = Client()
        self._reconnected: list[Callable[[], None]] = []

    @property
    def nc(self) -> Client:
        return self._nc

    @property
    def js(self) -> JetStreamContext:
        return self._js

    @property
    def replicas(self) -> int:
        return self._replicas

    async def connect(self) -> None:
        """Raises OSError or TimeoutError while no server answers."""
        await self._probe()
        async with asyncio.timeout(CONNECT_S_MAX):
            self._nc = await nats.connect(
                self._servers,
                **self._identity(),
                name="weft",
                max_reconnect_attempts=-1,
                reconnect_time_wait=RECONNECT_WAIT_S,
                ping_interval=PING_EVERY_S,
                error_cb=_noted,
                reconnected_cb=self._on_reconnected,
            )
        self._js = self._nc.jetstream(timeout=REQUEST_S_MAX)
        self._echo = self._nc.new_inbox()
        await self._nc.subscribe(self._echo, cb=_echoed)

    def _identity(self) -> dict[str, str]:
        """Who we are, for servers that we hear of only from others, too: their addresses have no names."""
        first = urlsplit(self._servers[0])
        if first.username is None:
            return {}
        if first.password is None:
            return {"token": unquote(first.username)}
        return {"user": unquote(first.username), "password": unquote(first.password)}

    async def _probe(self) -> None:
        """A client that never gives up would not tell us that nobody is there at the start."""
        error: OSError | None = None
        for server in self._servers:
            at = urlsplit(server if "://" in server else f"nats://{server}")
            try:
                _, writer = await asyncio.open_connection(at.hostname, at.port or PORT)
            except OSError as refused:
                error = refused
            else:
                writer.close()
                return
        raise error or ConnectionError("no NATS server is configured")

    async def close(self) -> None:
        if self._nc.is_closed:
            return
        try:
            await self._nc.close()
        except ConnectionError:  # Its last words met no server, and what comes after them was left undone.
            self._nc._status = Client.DISCONNECTED
            await self._nc.close()

    async def check(self) -> None:
        """Raises when the server does not answer; else it has all that was sent before.

        Not by `flush`: the client's reader dies, silently and for ever, of a PONG that comes when its flush
        has given up, as it does from a server that was paused.
        """
        if not self._nc.is_connected:
            raise ConnectionError("NATS is away")
        await self._nc.request(self._echo, timeout=CHECK_S_MAX)

    def on_reconnect(self, callback: Callable[[], None]) -> None:
        """Calls `callback` each time the connection is back; whatever came meanwhile was missed."""
        self._reconnected.append(callback)

    def off_reconnect(self, callback: Callable[[], None]) -> None:
        self._reconnected.remove(callback)

    async def _on_reconnected(self) -> None:
        for callback in self._reconnected:
            callback()

    async def ensure_stream(self, service: str) -> None:
        """The stream of what `service` announces, and of what is replayed to one of its listeners."""
        await self.ensure(
            api.StreamConfig(
                name=service,
                subjects=[f"weft.{service}.>", f"replay.{service}.>"],
                max_age=EVENTS_AGE_D_MAX * DAY_S,
                duplicate_window=DUPLICATE_WINDOW_S,
                allow_direct=True,
                allow_atomic=True,
            )
        )

    async def ensure_dead(self) -> None:
        """The stream of events that their consumers gave up."""
        await self.ensure(
            api.StreamConfig(
                name=DEAD, subjects=[f"{DEAD}.>"], max_age=DEAD_AGE_D_MAX * DAY_S, allow_direct=True
            )
        )

    async def ensure(self, config: api.StreamConfig) -> None:
        """Creates the stream, or changes it to `config`."""
        config.num_replicas = self._replicas
        await self.settled(lambda: self._ensure(config))

    async def _ensure(self, config: api.StreamConfig) -> None:
        try:
            await self._js.add_stream(config)
        except BadRequestError:
            await self._js.update_stream(config)

    async def settled(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """What `attempt` returns. A cluster that elects a leader or places copies is given time."""
        ends = asyncio.get_running_loop().time() + (SETTLE_S_MAX if self._replicas > 1 else 0)
        while True:
            try:
                return await attempt()
            except (nats.errors.Error, ServiceUnavailableError, TimeoutError) as error:
                if asyncio.get_running_loop().time() >= ends:
                    raise
                log.info("a stream is not settled yet: %s", type(error).__name__)
                await asyncio.sleep(RECONNECT_WAIT_S)

    async def event_streams(self) -> list[str]:
        """Every producer's stream that exists now."""
        infos = await self._js.streams_info()
        return sorted(
            name
            for info in infos
            if (name := info.config.name or "") and f"weft.{name}.>" in (info.config.subjects or [])
        )

    async def publish(self, subject: str, payload: bytes, headers: dict[str, str] | None = None) -> None:
        """Returns when JetStream has stored it. Raises a NATS error or TimeoutError."""
        await self._js.publish(subject, payload, headers=headers, timeout=REQUEST_S_MAX)

    async def request(self, subject: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Asks JetStream what the client library has no method for. Raises APIError."""
        payload = json.dumps(body).encode() if body is not None else b""
        message = await self._nc.request(f"$JS.API.{subject}", payload, timeout=REQUEST_S_MAX)
        answer: dict[str, Any] = json.loads(message.data)
        if "error" in answer:
            APIError.from_error(answer["error"])
        return answer

    async def kv(self, bucket: str, ttl_s: float | None = None) -> "Bucket":
        """The key-value bucket of that name, made if there is none."""
        return Bucket(self, bucket, await self.settled(lambda: self._kv(bucket, ttl_s)))

    async def _kv(self, bucket: str, ttl_s: float | None) -> KeyValue:
        try:
            store = await self._js.key_value(bucket)
        except (BucketNotFoundError, NotFoundError):
            store = await self._js.create_key_value(bucket=bucket, ttl=ttl_s, replicas=self._replicas)
        if self._replicas > 1:
            await self._replicate(store)
        return store

    async def _replicate(self, store: KeyValue) -> None:
        """A bucket made on fewer servers is kept by as many as are wanted now. Waits for its leader."""
        config = (await store.status()).stream_info.config
        if config.num_replicas != self._replicas:
            config.num_replicas = self._replicas
            await self._js.update_stream(config)


class Bucket:
    """Keys and values that all processes see."""

    def __init__(self, bus: Bus, name: str, store: KeyValue) -> None:
        self._bus, self._name, self._store = bus, name, store

    async def get(self, key: str) -> bytes | None:
        try:
            return (await self._store.get(key)).value
        except KeyNotFoundError:
            return None

    async def put(self, key: str, value: bytes) -> None:
        await self._store.put(key, value)

    async def delete(self, key: str) -> None:
        await self._store.delete(key)

    async def look(self, key: str) -> tuple[bytes | None, int]:
        """The value, if any, and the revision of what is there (a deletion is one too; 0: nothing)."""
        try:
            entry = await self._store.get(key)
        except KeyNotFoundError as missing:
            return None, (missing.entry.revision or 0) if missing.entry else 0
        return entry.value, entry.revision or 0

    async def follow(self, key: str, value: bytes, revision: int) -> None:
        """Puts the value, provided that `revision` is still the latest. Raises KeyWrongLastSequenceError."""
        await self._store.update(key, value, last=revision)

    async def watch(self, key: str) -> AsyncIterator[bytes]:
        """The value now, if any, then each new one; the latest again after an outage."""
        hint, told = asyncio.Event(), None
        hint.set()
        self._bus.on_reconnect(hint.set)

        async def heard(message: Msg) -> None:
            hint.set()

        subscription = await self._bus.nc.subscribe(f"$KV.{self._name}.{key}", cb=heard)
        try:
            while True:
                hint.clear()
                value = await self._current(key)
                if value is not None and value != told:
                    told = value
                    yield value
                await within(hint, WATCH_REFRESH_S)
        finally:
            self._bus.off_reconnect(hint.set)
            if not self._bus.nc.is_closed:
                await subscription.unsubscribe()

    async def _current(self, key: str) -> bytes | None:
        """As `get`, with patience: the server may be away."""
        while True:
            try:
                return await self.get(key)
            except (nats.errors.Error, TimeoutError):
                await asyncio.sleep(RECONNECT_WAIT_S)


async def within(event: asyncio.Event, seconds: float) -> None:
    """Waits for `event`, but no longer than `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


async def _echoed(message: Msg) -> None:
    await message.respond(b"")


async def _noted(error: Exception) -> None:
    log.warning("NATS: %s", type(error).__name__)
