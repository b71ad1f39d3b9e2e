"""The floor: a grpc.aio server on uvloop whose methods do nothing but answer their requests.

`python -m bench.peers.echo PORT`. `/bench.Echo/Unary`, any bytes; `Many` answers them MANY times, `Each`
answers each message of a stream.
"""

import asyncio
import sys
from collections.abc import AsyncIterator

import grpc
import grpc.aio
import uvloop

from bench.peers.echoes import MANY, registered


async def unary(request: bytes, context: object) -> bytes:
    return request


async def many(request: bytes, context: object) -> AsyncIterator[bytes]:
    for _ in range(MANY):
        yield request


async def each(requests: AsyncIterator[bytes], context: object) -> AsyncIterator[bytes]:
    async for request in requests:
        yield request


async def main(port: int) -> None:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((registered(unary, many, each),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
