"""A servicer that knows no protobuf, hosted by either engine in a process of its own.

What an answer looks like is asked for by request metadata (`x-...`), so that raw bytes can ask for it too.
Standard output gives the address first; whatever the process writes to standard error is a fault.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import psutil
import uvloop

SERVICE = "weft.wire.Echo"
HANG_S = 3600.0  # Longer than any test waits: only a cancel ends it.
MESSAGE_BYTES_MAX = 4 * 1024 * 1024  # gRPC's own default.


class Echo:
    """All four kinds on bytes. `outcomes` counts how calls ended here."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()

    async def unary(self, request: bytes, context: Any) -> bytes:
        async with self._counted(context) as asked:
            await _begin(asked, context)
            return _answer(asked, request)

    async def server_stream(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        async with self._counted(context) as asked:
            await _begin(asked, context)
            for _ in range(int(asked.get("x-count", 1))):
                yield _answer(asked, request)

    async def client_stream(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        async with self._counted(context) as asked:
            await _begin(asked, context)
            return b"|".join([request async for request in requests])

    async def bidi(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async with self._counted(context) as asked:
            await _begin(asked, context)
            async for request in requests:
                yield _answer(asked, request)

    async def measure(self, _request: bytes, _context: Any) -> bytes:
        """What the process holds: bytes, tasks, descriptors, calls under way and ended."""
        gc.collect()
        process = psutil.Process()
        held = {
            "rss": process.memory_info().rss,
            "cpu_s": sum(process.cpu_times()[:2]),
            "tasks": len(asyncio.all_tasks()),
            "fds": process.num_fds(),
            **self.outcomes,
        }
        return json.dumps(held).encode()

    def _counted(self, context: Any) -> Counted:
        return Counted(self.outcomes, dict(context.invocation_metadata()))

    def handler(self) -> grpc.GenericRpcHandler:
        kinds = {
            "Unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "ServerStream": grpc.unary_stream_rpc_method_handler(self.server_stream),
            "ClientStream": grpc.stream_unary_rpc_method_handler(self.client_stream),
            "Bidi": grpc.stream_stream_rpc_method_handler(self.bidi),
            "Measure": grpc.unary_unary_rpc_method_handler(self.measure),
        }
        return grpc.method_handlers_generic_handler(SERVICE, kinds)


class Crash(Exception):
    """What a servicer raises when asked to; whoever logs it does right."""


class Counted:
    """Counts a call as under way, then by how it ended."""

    def __init__(self, outcomes: Counter[str], asked: dict[str, Any]) -> None:
        self._outcomes, self._asked = outcomes, asked

    async def __aenter__(self) -> dict[str, Any]:
        self._outcomes["open"] += 1
        return self._asked

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._outcomes["open"] -= 1
        self._outcomes[kind.__name__ if kind else "done"] += 1


async def _begin(asked: dict[str, Any], context: Any) -> None:
    if "x-echo" in asked or "x-echo-bin" in asked:
        given = [pair for pair in context.invocation_metadata() if pair[0] in ("x-echo", "x-echo-bin")]
        await context.send_initial_metadata(tuple(given))
        context.set_trailing_metadata(tuple((f"x-trailing-{name[2:]}", value) for name, value in given))
    if "x-initial-bytes" in asked:
        await context.send_initial_metadata((("x-big", "v" * int(asked["x-initial-bytes"])),))
    if "x-hang" in asked:
        await asyncio.sleep(HANG_S)
    if "x-delay-ms" in asked:
        await asyncio.sleep(int(asked["x-delay-ms"]) / 1000)
    if "x-crash" in asked:
        raise Crash("as asked")
    if "x-status" in asked:
        code = next(code for code in grpc.StatusCode if code.value[0] == int(asked["x-status"]))
        await context.abort(code, asked.get("x-message-bin", b"").decode())


def _answer(asked: dict[str, Any], request: bytes) -> bytes:
    return bytes(int(asked["x-bytes"])) if "x-bytes" in asked else request


async def serve(engine: str, options: dict[str, Any]) -> None:
    """Serves until standard input ends."""
    echo = Echo()
    server = _server(engine, options)
    server.add_generic_rpc_handlers((echo.handler(),))
    port = _listen(engine, server, options)
    await server.start()
    print(port, flush=True)  # noqa: T201 - the caller reads it
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(options.get("grace_s", 0))


def _server(engine: str, options: dict[str, Any]) -> Any:
    if engine == "aio":
        return grpc.aio.server(options=[("grpc.so_reuseport", 0), ("grpc.http2.max_ping_strikes", 0)])
    from services.chassis.wire.limits import ServerLimits
    from services.chassis.wire.server import Server

    # Our peers ask by PING how far the server is, more often than anybody else would.
    return Server(ServerLimits(**{"ping_interval_s": 0.0, **options.get("limits", {})}))


def _listen(engine: str, server: Any, options: dict[str, Any]) -> int:
    address = options.get("address", "127.0.0.1:0")
    if "key" not in options:
        return int(server.add_insecure_port(address))
    key, certificate = Path(options["key"]), Path(options["certificate"])
    if engine == "aio":
        pairs = [(key.read_bytes(), certificate.read_bytes())]
        return int(server.add_secure_port(address, grpc.ssl_server_credentials(pairs)))
    from services.chassis.wire.server import ports

    return int(server.add_secure_port(address, ports.tls(certificate, key)))


def _unasked(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], Crash))


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    logging.root.handlers[0].addFilter(_unasked)
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    chosen = json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}
    with asyncio.Runner(loop_factory=uvloop.new_event_loop if chosen.get("uvloop") else None) as runner:
        runner.run(serve(sys.argv[1], chosen))
