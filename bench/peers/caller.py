"""A client that calls an echo server for a while.

`python -m bench.peers.caller CLIENT PORT IN_FLIGHT SECONDS`.
Prints what it did as JSON: calls, seconds, processor seconds.
"""

import asyncio
import json
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import uvloop

from bench.peers.echo_grpclib import Bytes
from bench.peers.echoes import SERVICE

METHOD = f"/{SERVICE}/Unary"
PAYLOAD = b"x" * 100
WARM = 200  # Calls before the clock starts.

Call = Callable[[], Awaitable[Any]]


async def wire(port: int) -> Call:
    from services.chassis.wire.client import Channel

    unary: Any = Channel(f"127.0.0.1:{port}").unary_unary(METHOD)
    return lambda: unary(PAYLOAD, timeout=10)


async def grpc_aio(port: int) -> Call:
    unary: Any = grpc.aio.insecure_channel(f"127.0.0.1:{port}").unary_unary(METHOD)
    return lambda: unary(PAYLOAD, timeout=10)


async def grpclib(port: int) -> Call:
    from grpclib.client import Channel, UnaryUnaryMethod

    unary: Any = UnaryUnaryMethod(Channel("127.0.0.1", port, codec=Bytes()), METHOD, bytes, bytes)
    return lambda: unary(PAYLOAD, timeout=10)


def told(calls: int, seconds: float, cpu: float) -> None:
    json.dump({"calls": calls, "seconds": seconds, "cpu": cpu}, sys.stdout)


async def loops(make: Callable[[int], Awaitable[Call]], port: int, flight: int, seconds: float) -> None:
    """`flight` callers, each calling again when it is answered."""
    call = await make(port)
    for _ in range(WARM):
        assert await call() == PAYLOAD
    count, began, cpu = 0, time.perf_counter(), time.process_time()
    ends = began + seconds

    async def caller() -> None:
        nonlocal count
        while time.perf_counter() < ends:
            await call()
            count += 1

    await asyncio.gather(*(caller() for _ in range(flight)))
    told(count, time.perf_counter() - began, time.process_time() - cpu)


def sync(port: int, flight: int, seconds: float) -> None:
    """grpcio's C++ core without asyncio: a thread for each caller."""
    unary: Any = grpc.insecure_channel(f"127.0.0.1:{port}").unary_unary(METHOD)
    for _ in range(WARM):
        assert unary(PAYLOAD, timeout=10) == PAYLOAD
    counts, began, cpu = [0] * flight, time.perf_counter(), time.process_time()

    def caller(index: int) -> None:
        while time.perf_counter() < began + seconds:
            unary(PAYLOAD, timeout=10)
            counts[index] += 1

    threads = [threading.Thread(target=caller, args=(index,)) for index in range(flight)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told(sum(counts), time.perf_counter() - began, time.process_time() - cpu)


ASYNC = {"wire": wire, "grpc.aio": grpc_aio, "grpclib": grpclib}

if __name__ == "__main__":
    name, at, in_flight, lasting = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    if name == "grpc sync":
        sync(at, in_flight, lasting)
    else:
        uvloop.run(loops(ASYNC[name], at, in_flight, lasting))
