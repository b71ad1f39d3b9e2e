"""The floor: a grpc.aio server on uvloop whose one method does nothing but answer its request.

`python -m bench.peers.echo PORT`. `/bench.Echo/Unary`, any bytes.
"""

import asyncio
import sys
from typing import Any

import grpc
import grpc.aio
import uvloop


async def answer(request: bytes, context: object) -> bytes:
    return request


async def main(port: int) -> None:
    server = grpc.aio.server()
    handlers: dict[str, Any] = {"Unary": grpc.unary_unary_rpc_method_handler(answer)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Echo", handlers),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
