"""What outlives a link: subscriptions, the way back after an outage, the move away from a closing server.

While no server is connected nothing is buffered: what is sent then fails with Disconnected, and who asked
decides. After each new link `on_connect` is called, for whatever came in between was missed. A move out of
lame duck mode opens the new link first; a subscriber may hear a message twice then, and misses none.
"""

import asyncio
import json
import logging
import random
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from services.chassis.jetstream import headers as header
from services.chassis.jetstream.errors import Disconnected, JetStreamError, Refused, TooLarge
from services.chassis.jetstream.link import Link, Sink
from services.chassis.jetstream.protocol import Message, publication, subject, subscription
from services.chassis.jetstream.servers import Options, Server, Servers

REQUEST_S_MAX = 5.0
RECONNECT_S, RECONNECT_S_MAX = (
    0.02,
    2.0,
)  # Between rounds of all servers; spread, so that not all come at once.
RETIRE_S_MAX = 5.0  # What the old server still owes after a move comes within this, or is given up.
SUBSCRIPTIONS_MAX = 10_000  # Who has more forgets to unsubscribe.

log = logging.getLogger("weft.jetstream")


class Subscription:
    """Interest in subjects, on whatever link there is."""

    __slots__ = ("_connection", "queue", "sid", "sink", "subject")

    def __init__(self, connection: "Connection", sid: bytes, about: bytes, queue: bytes, sink: Sink) -> None:
        self._connection, self.sid, self.sink = connection, sid, sink
        self.subject, self.queue = about, queue

    def end(self) -> None:
        """Delivers nothing from now on."""
        self._connection.unsubscribe(self)


class Connection:
    """A client of one cluster. Open it once; it comes back for ever, until it is closed."""

    def __init__(self, options: Options) -> None:
        self._options, self._servers = options, Servers(options.servers)
        self._link: Link | None = None
        self._subscriptions: dict[bytes, Subscription] = {}
        self._sids = 0
        self._up = asyncio.Event()
        self._callbacks: list[Callable[[], None]] = []
        self._keeping: asyncio.Task[None] | None = None
        self._retiring: set[asyncio.Task[None]] = set()
        self.connects = 0  # Links made so far.

    async def open(self) -> None:
        """Raises OSError, TimeoutError, Unauthorized, Insecure or ProtocolError when no server takes us."""
        failures: list[Exception] = []
        link = await self._any_of(self._servers.round(), failures)
        if link is None:
            raise failures[-1]
        self._adopt(link)
        self._keeping = asyncio.create_task(self._keep(), name="jetstream connection")

    async def close(self) -> None:
        """Sends what is unsent, and ends; at once when it is cancelled."""
        keeping, self._keeping = self._keeping, None
        try:
            for task in (*([keeping] if keeping else []), *self._retiring):
                task.cancel()
                await asyncio.wait([task])
            if self._link:
                async with asyncio.timeout(RETIRE_S_MAX):
                    await self._link.flush()
        except (JetStreamError, TimeoutError):
            log.info("closed without the server's word")
        finally:
            if self._link:
                self._link.close()
            self._link = None
            self._up.clear()

    @property
    def connected(self) -> bool:
        return self._link is not None and not self._link.lost

    @property
    def link(self) -> Link:
        """The link of this moment. Raises Disconnected."""
        if self._link is None or self._link.lost:
            raise Disconnected("no NATS server is connected")
        return self._link

    async def ready(self) -> None:
        """Waits until a server is connected."""
        while not self.connected:
            self._up.clear()
            await self._up.wait()

    def on_connect(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Calls `callback` at each link after this. Returns what ends that."""
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback)

    def subscribe(self, about: str, sink: Sink, queue: str = "") -> Subscription:
        """Hands each list of messages that comes to `sink`, which must not block. Raises ProtocolError."""
        if len(self._subscriptions) >= SUBSCRIPTIONS_MAX:
            raise JetStreamError(f"more than {SUBSCRIPTIONS_MAX} subscriptions")
        self._sids += 1
        sid = b"%d" % self._sids
        made = Subscription(self, sid, subject(about), subject(queue) if queue else b"", sink)
        self._subscriptions[sid] = made
        if self._link and not self._link.lost:
            self._link.add(sid, sink)
            self._link.write(subscription(made.subject, made.queue, sid))
        return made

    def unsubscribe(self, subscription: Subscription) -> None:
        self._subscriptions.pop(subscription.sid, None)
        if self._link and not self._link.lost:
            self._link.drop(subscription.sid)
            self._link.write(b"UNSUB %b\r\n" % subscription.sid)

    async def finish(self, subscription: Subscription) -> None:
        """Ends the interest, then delivers what was under way."""
        if self._subscriptions.pop(subscription.sid, None) and self.connected:
            link = self.link
            link.write(b"UNSUB %b\r\n" % subscription.sid)
            try:
                async with asyncio.timeout(REQUEST_S_MAX):
                    await link.flush()
            except (JetStreamError, TimeoutError):
                log.info("a subscription ended with its link")
            link.drop(subscription.sid)

    def inbox(self) -> str:
        """A subject that nobody else has."""
        return f"_INBOX.{secrets.token_hex(11)}"

    def write(self, commands: bytes) -> None:
        """Sends prepared commands. Raises Disconnected or Overrun."""
        self.link.write(commands)

    async def drain(self) -> None:
        """Waits until little is unsent. Raises Disconnected."""
        await self.link.drain()

    def publish(
        self, to: str, payload: bytes, headers: Mapping[str, str] | None = None, reply: str = ""
    ) -> None:
        """Sends, and hears no more of it. Raises Disconnected, Overrun, TooLarge or ProtocolError."""
        self.write(self._publication(to, payload, headers, subject(reply) if reply else b""))

    def _publication(self, to: str, payload: bytes, headers: Mapping[str, str] | None, reply: bytes) -> bytes:
        head = header.encode(headers) if headers else b""
        self.check_size(len(head) + len(payload))
        return publication(subject(to), reply, head, payload)

    def check_size(self, size: int) -> None:
        """Raises TooLarge when the server would end the connection over a message of `size` bytes."""
        if (most := self.link.payload_bytes_max) < size:
            raise TooLarge(f"a message of {size} bytes; the server takes {most}")

    async def request(
        self,
        to: str,
        payload: bytes = b"",
        headers: Mapping[str, str] | None = None,
        timeout_s: float = REQUEST_S_MAX,
    ) -> Message:
        """The first answer. Raises Disconnected, NoResponders, TimeoutError, TooLarge or ProtocolError."""
        answers = await self.link.ask(lambda inbox: self._publication(to, payload, headers, inbox), timeout_s)
        return answers[0]

    async def api(self, to: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Asks JetStream: `$JS.API.` and `to`. Raises Refused and what `request` raises."""
        payload = json.dumps(body).encode() if body is not None else b""
        return answer((await self.request(f"$JS.API.{to}", payload)).payload)

    async def flush(self) -> None:
        """Waits until the server has taken all that was sent. Raises Disconnected or TimeoutError."""
        async with asyncio.timeout(REQUEST_S_MAX):
            await self.link.flush()

    async def _keep(self) -> None:
        while True:
            link = self._link
            assert link
            await link.stirred.wait()
            if link.lost:
                await self._come_back(link)
            else:
                await self._move(link)

    async def _come_back(self, lost: Link) -> None:
        self._servers.last(lost.server)
        delay = RECONNECT_S
        while (link := await self._any_of(self._servers.round())) is None:
            await asyncio.sleep(delay * random.uniform(0.5, 1.5))
            delay = min(delay * 2, RECONNECT_S_MAX)
        self._adopt(link)

    async def _move(self, lame: Link) -> None:
        """To another server, if there is one; else when this one has closed."""
        self._servers.last(lame.server)
        others = [each for each in self._servers.round() if each.address != lame.server.address]
        link = await self._any_of(others)
        if link is None:
            lame.stirred.clear()
            return
        self._adopt(link)
        task = asyncio.create_task(self._retire(lame, link), name="jetstream retiring link")
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _any_of(
        self, servers: Sequence[Server], failures: list[Exception] | None = None
    ) -> Link | None:
        for server in servers:
            try:
                link = await Link.connect(server, self._options)
            except (OSError, TimeoutError, JetStreamError) as error:
                log.debug("%s:%s did not take us: %s", *server.address, type(error).__name__)
                self._servers.last(server)
                if failures is not None:
                    failures.append(error)
            else:
                return link
        return None

    def _adopt(self, link: Link) -> None:
        """From here on `link` is the one."""
        self._link = link
        self.connects += 1
        link.informed = self._informed
        self._informed(link)
        commands = []
        for each in self._subscriptions.values():
            link.add(each.sid, each.sink)
            commands.append(subscription(each.subject, each.queue, each.sid))
        link.write(b"".join(commands))
        self._up.set()
        for callback in list(self._callbacks):
            callback()

    def _informed(self, link: Link) -> None:
        if urls := link.info.get("connect_urls"):
            self._servers.heard(urls)

    async def _retire(self, old: Link, new: Link) -> None:
        """Leaves `old` when `new` hears all and nothing is owed any more."""
        try:
            async with asyncio.timeout(RETIRE_S_MAX):
                await new.flush()
                old.write(b"".join([b"UNSUB %b\r\n" % sid for sid in old.sids()]))
                await old.flush()
                while old.busy:  # noqa: ASYNC110 - at most some milliseconds, once in a server's life
                    await asyncio.sleep(RECONNECT_S)
        except (JetStreamError, TimeoutError):
            log.info("a closing server was left before all was answered")
        finally:
            old.close()


def answer(payload: bytes) -> dict[str, Any]:
    """What JetStream said. Raises Refused."""
    try:
        said: dict[str, Any] = json.loads(payload)
        error = said.get("error")
    except (ValueError, AttributeError):
        raise Refused(500, 0, "the answer is not JetStream's") from None
    if error:
        raise Refused(error.get("code", 500), error.get("err_code", 0), error.get("description", ""))
    return said
