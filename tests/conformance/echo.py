"""The servicer behind the conformance suite; it answers what the request asks for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from conformance.v1 import echo_pb2 as pb
from conformance.v1.echo_pb2_grpc import EchoServiceServicer, add_EchoServiceServicer_to_server

from services.chassis.errors import FailedPrecondition
from services.chassis.host import Parts, Tools
from services.chassis.method import Call


class AskedFor(FailedPrecondition):
    """The caller asked for a refusal after {count} answers."""


class Echo(EchoServiceServicer):
    def __init__(self, tools: Tools) -> None:
        self._db = tools.db
        self.ended: list[str] = []  # How calls ended here, in order.

    async def Unary(self, request: pb.Ask, call: Call) -> pb.Answer:
        try:
            if request.trailer:
                await call.send_initial_metadata((("x-initial", request.trailer),))
                call.set_trailing_metadata((("x-trailer", request.trailer), ("x-trailer-bin", b"\0\xff")))
            if request.mark:
                async with self._db.fast() as connection:
                    await connection.execute("insert into mark default values")
            await _delay(request)
            _end(request, request.count)
        except BaseException as error:
            self.ended.append(type(error).__name__)
            raise
        return _answer(request, 0, call)

    async def ServerStream(self, request: pb.Ask, call: Call) -> AsyncIterator[pb.Answer]:
        try:
            for index in range(request.count):
                await _delay(request)
                yield _answer(request, index, call)
            _end(request, request.count)
        except BaseException as error:
            self.ended.append(type(error).__name__)
            raise

    async def ClientStream(self, requests: AsyncIterator[pb.Ask], call: Call) -> pb.Answer:
        texts = [request.text async for request in requests]
        return pb.Answer(text=",".join(texts), index=len(texts))

    async def Bidi(self, requests: AsyncIterator[pb.Ask], call: Call) -> AsyncIterator[pb.Answer]:
        count = 0
        async for request in requests:
            await _delay(request)
            _end(request, count)
            yield _answer(request, count, call)
            count += 1

    SignedIn = Permitted = Internal = Fresh = Repeatable = Unary


def build(tools: Tools) -> Parts:
    echo = Echo(tools)

    async def table() -> None:
        await tools.db.execute("create table if not exists mark (id bigint generated always as identity)")

    return Parts(servicers={add_EchoServiceServicer_to_server: echo}, starts=[table])


def _answer(request: pb.Ask, index: int, call: Call) -> pb.Answer:
    answer = pb.Answer(
        text=request.text, index=index, padding=bytes(request.padding), actor=call.caller.actor
    )
    for name, value in call.headers.items():
        if name.startswith("x-ask") or name == "traceparent":
            answer.metadata[name] = value.hex() if isinstance(value, bytes) else value
    if (remaining := call.time_remaining()) is not None:
        answer.remaining.FromMilliseconds(int(remaining * 1000))
    return answer


async def _delay(request: pb.Ask) -> None:
    if request.HasField("delay"):
        await asyncio.sleep(request.delay.ToMilliseconds() / 1000)


def _end(request: pb.Ask, count: int) -> None:
    if request.ending == pb.ENDING_REFUSE:
        raise AskedFor(count=count)
    if request.ending == pb.ENDING_CRASH:
        raise RuntimeError("a secret that must not reach the caller")
