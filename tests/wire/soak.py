"""Mixed calls at a rate, some of them cancelled, late or refused, and connections torn down in between."""

from __future__ import annotations

import asyncio
import os
import random
import socket
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import grpc
import psutil

from tests.wire import octets as o
from tests.wire.callers import begin, ended
from tests.wire.hosts import Host
from tests.wire.peer import hanging

TICK_S = 0.02  # Calls are begun in bundles of this length.
OPEN_MAX = 2_000  # Calls at once; a server that falls behind lowers the rate, it does not fill our memory.
OK, CANCELLED, DEADLINE, REFUSED = 0, 1, 4, 9
LINGER = b"\1\0\0\0\0\0\0\0"  # Close by RST.


@dataclass
class Count:
    """What became of the calls: `ends` by kind and code, `odd` those that should have ended otherwise."""

    begun: int = 0
    ends: Counter[tuple[str, int]] = field(default_factory=Counter)
    odd: list[str] = field(default_factory=list)
    torn: int = 0
    memory: list[tuple[int, int]] = field(
        default_factory=list
    )  # Of the server and of ourselves, each second.


class Soak:
    """Drives calls over channels for some seconds."""

    def __init__(self, host: Host, channels: list[Any], seed: int) -> None:
        self.count = Count()
        self._host, self._channels = host, channels
        self._random = random.Random(seed)
        self._open: set[asyncio.Task[None]] = set()

    async def run(self, seconds: float, rate: float) -> Count:
        loop = asyncio.get_running_loop()
        started, ticks = loop.time(), 0
        watching = asyncio.create_task(self._watch())
        while loop.time() < started + seconds:
            for _ in range(int(rate * TICK_S)):
                if len(self._open) < OPEN_MAX:
                    self._begin()
            if ticks % 10 == 0:
                self._tear()
            ticks += 1
            await asyncio.sleep(max(0.0, started + ticks * TICK_S - loop.time()))
        await asyncio.gather(*self._open)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        return self.count

    async def _watch(self) -> None:
        server, own = psutil.Process(self._host.process.pid), psutil.Process(os.getpid())
        while True:
            self.count.memory.append((server.memory_info().rss, own.memory_info().rss))
            await asyncio.sleep(1)

    def _begin(self) -> None:
        self.count.begun += 1
        task = asyncio.ensure_future(self._call(self._random.random()))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _call(self, fate: float) -> None:
        rpc = self._random.choices(["Unary", "ServerStream", "ClientStream", "Bidi"], [60, 15, 10, 15])[0]
        payload = self._random.randbytes(self._random.choice([0, 10, 100, 100, 1_000, 20_000]))
        requests = [payload] * (self._random.randrange(1, 6) if rpc in ("ClientStream", "Bidi") else 1)
        metadata: tuple[tuple[str, str], ...] = (("x-count", "3"),)
        limit, allowed = 30.0, {OK}
        if fate < 0.03:
            metadata, limit, allowed = (("x-hang", "1"),), 0.05, {DEADLINE}
        elif fate < 0.06:
            metadata, allowed = (("x-status", str(REFUSED)),), {REFUSED}
        elif fate < 0.16:
            metadata, allowed = (("x-delay-ms", "3"), ("x-count", "3")), {OK, CANCELLED}
        call = begin(self._random.choice(self._channels), rpc, requests, timeout=limit, metadata=metadata)
        if CANCELLED in allowed:
            asyncio.get_running_loop().call_later(self._random.random() * 0.006, call.cancel)
        found = await ended(call, rpc)
        self.count.ends[rpc, found.code] += 1
        expected = [payload] * {"ServerStream": 3, "Bidi": len(requests)}.get(rpc, 1)
        if found.code not in allowed:
            self.count.odd.append(f"{rpc}: {grpc_name(found.code)} {found.details}")
        elif found.code == OK and rpc != "ClientStream" and found.messages != expected:
            self.count.odd.append(f"{rpc}: {len(found.messages)} messages of {len(expected)}, or other ones")

    def _tear(self) -> None:
        """A connection with calls under way that ends by RST."""
        with socket.create_connection(("127.0.0.1", self._host.port)) as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
            one.sendall(o.PREFACE + o.settings() + hanging(1) + hanging(3, half_closed=False))
        self.count.torn += 1


def grpc_name(code: int) -> str:
    return next(each.name for each in grpc.StatusCode if each.value[0] == code)
