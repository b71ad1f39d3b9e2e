"""grpclib on uvloop, echoing. `python -m bench.peers.echo_grpclib PORT`."""

import asyncio
import sys
from typing import Any

import uvloop
from grpclib.const import Cardinality, Handler
from grpclib.encoding.base import CodecBase
from grpclib.server import Server, Stream

from bench.peers.echoes import MANY, SERVICE


class Bytes(CodecBase):
    """Messages as they are."""

    __content_subtype__ = "proto"

    def encode(self, message: Any, message_type: Any) -> bytes:
        return bytes(message)

    def decode(self, data: bytes, message_type: Any) -> bytes:
        return data


class Echo:
    """What grpclib serves: an object with `__mapping__`."""

    async def unary(self, stream: Stream[bytes, bytes]) -> None:
        request = await stream.recv_message()
        assert request is not None
        await stream.send_message(request)

    async def many(self, stream: Stream[bytes, bytes]) -> None:
        request = await stream.recv_message()
        assert request is not None
        for _ in range(MANY):
            await stream.send_message(request)

    async def each(self, stream: Stream[bytes, bytes]) -> None:
        async for request in stream:
            await stream.send_message(request)

    def __mapping__(self) -> dict[str, Handler]:
        return {
            f"/{SERVICE}/Unary": Handler(self.unary, Cardinality.UNARY_UNARY, bytes, bytes),
            f"/{SERVICE}/Many": Handler(self.many, Cardinality.UNARY_STREAM, bytes, bytes),
            f"/{SERVICE}/Each": Handler(self.each, Cardinality.STREAM_STREAM, bytes, bytes),
        }


async def main(port: int) -> None:
    server = Server([Echo()], codec=Bytes())
    await server.start("127.0.0.1", port)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
