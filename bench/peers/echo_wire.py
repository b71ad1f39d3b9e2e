"""Wire's server on uvloop, echoing. `python -m bench.peers.echo_wire PORT`."""

import asyncio
import sys

import uvloop

from bench.peers.echo import each, many, unary
from bench.peers.echoes import registered
from services.chassis.wire.server import Server


async def main(port: int) -> None:
    server = Server()
    server.add_generic_rpc_handlers((registered(unary, many, each),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
