"""What machines ask a process over HTTP: /metrics for Prometheus, /live and /ready for who runs it.

Threads of their own answer, so that a stuck event loop is seen rather than waited for. Plain HTTP, for the
inside: the edge routes nothing here.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from socketserver import TCPServer
from threading import BoundedSemaphore, Thread
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler
from wsgiref.types import StartResponse, WSGIEnvironment

from prometheus_client import make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from services.chassis.health import Readiness

BEAT_S = 0.5  # Between two beats of the event loop.
BEAT_S_MAX = 10.0  # A loop that has not run for longer hangs: no call of ours blocks it for a second.
ASKING_MAX = 8  # Requests at once, a thread each; a scraper and a few probes need two or three.
ASKING_S_MAX = 5.0  # Of silence on a connection, which then gives its thread back.
STOP_POLL_S = 0.1  # How soon a stop is noticed.

TEXT = {200: "200 OK", 404: "404 Not Found", 405: "405 Method Not Allowed", 503: "503 Service Unavailable"}

log = logging.getLogger("weft.probes")


@asynccontextmanager
async def probing(address: str, readiness: Readiness) -> AsyncIterator[int]:
    """Answers on `address` (host:port; empty: nowhere) until the block ends. Yields the port, 0 for none."""
    if not address:
        yield 0
        return
    pulse = _Pulse()
    server = _Server(address, _Answers(pulse, readiness))
    serving = Thread(target=server.serve_forever, args=(STOP_POLL_S,), name="probes", daemon=True)
    serving.start()
    beating = asyncio.create_task(pulse.beat())
    try:
        yield server.server_port
    finally:
        beating.cancel()
        await asyncio.to_thread(server.shutdown)
        serving.join()
        server.server_close()


class _Pulse:
    """When the event loop last ran."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    async def beat(self) -> None:
        while True:
            self._last = time.monotonic()
            await asyncio.sleep(BEAT_S)

    def still_s(self) -> float:
        return time.monotonic() - self._last


class _Answers:
    """The WSGI application."""

    def __init__(self, pulse: _Pulse, readiness: Readiness) -> None:
        self._pulse, self._readiness = pulse, readiness
        self._metrics = make_wsgi_app()
        self._pages: dict[str, Callable[[], tuple[int, Mapping[str, Any]]]] = {
            "/live": self._live,
            "/ready": self._ready,
        }

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        if method not in ("GET", "HEAD"):
            code, said = 405, {"error": "GET and HEAD only"}
        elif path == "/metrics":
            return self._metrics(environ, start_response)  # type: ignore[no-any-return] # typed as Any
        elif path in self._pages:
            code, said = self._pages[path]()  # type: ignore[assignment] # a Mapping is a wider dict
        else:
            code, said = 404, {"error": "there are /live, /metrics and /ready"}
        body = json.dumps(said).encode() + b"\n"
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        start_response(TEXT[code], [*headers, ("Cache-Control", "no-store")])
        return [] if method == "HEAD" else [body]

    def _live(self) -> tuple[int, Mapping[str, Any]]:
        still_s = self._pulse.still_s()
        alive = still_s < BEAT_S_MAX
        return (200 if alive else 503), {"live": alive, "still_s": round(still_s, 1)}

    def _ready(self) -> tuple[int, Mapping[str, Any]]:
        """503 also for a loop that hangs: what it last said of itself is old."""
        failing = self._readiness.failing
        if self._pulse.still_s() >= BEAT_S_MAX:
            failing = {"process": "hangs"}
        return (503 if failing else 200), {"ready": not failing, "failing": failing}


class _Handler(WSGIRequestHandler):
    """One connection, one request; nothing is logged of it."""

    timeout = ASKING_S_MAX

    def log_message(self, format: str, *args: Any) -> None:
        pass


class _Server(ThreadingWSGIServer):
    """At most ASKING_MAX requests at once; whoever comes then is hung up on and asks again."""

    def __init__(self, address: str, answers: _Answers) -> None:
        host, _, port = address.rpartition(":")
        host = host.strip("[]")
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._free = BoundedSemaphore(ASKING_MAX)
        super().__init__((host, int(port)), _Handler)
        self.set_app(answers)

    def server_bind(self) -> None:
        """Without the base's question to DNS for the host's name, which may take seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away or said nothing; a fault of ours would show in its answer."""
        log.debug("a probe was not answered", exc_info=True)
