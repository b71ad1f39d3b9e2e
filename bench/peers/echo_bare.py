"""The ceiling: a bare uvloop protocol that answers whatever comes with one fixed HTTP/1.1 answer.

`python -m bench.peers.echo_bare PORT`. It parses nothing: what a transport and a loop cost, and no more.
"""

import asyncio
import sys
from typing import Any

import uvloop

BODY = b"x" * 100
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(BODY), BODY)


class Bare(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(ANSWER)


async def main(port: int) -> None:
    await asyncio.get_running_loop().create_server(Bare, "127.0.0.1", port, backlog=1024)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
