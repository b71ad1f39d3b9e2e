"""grpcio's server with threads, echoing. `python -m bench.peers.echo_sync PORT`."""

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc

from bench.peers.echoes import MANY, registered

THREADS = 10  # What its users choose.


def unary(request: bytes, context: object) -> bytes:
    return request


def many(request: bytes, context: object) -> Iterator[bytes]:
    for _ in range(MANY):
        yield request


def each(requests: Iterator[bytes], context: object) -> Iterator[bytes]:
    yield from requests


if __name__ == "__main__":
    server = grpc.server(ThreadPoolExecutor(THREADS))
    server.add_generic_rpc_handlers((registered(unary, many, each),))
    server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
    server.start()
    server.wait_for_termination()
