"""Sends through the edge what an import consists of, until it is there: whoever dies on the other side."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc
import grpc.aio
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from scripts.jobs.calling import Edge

CALL_S_MAX = 600.0  # Of a call that carries thousands of lines.
PATIENCE_S = 180.0  # A mesh that has been away for longer does not come back by itself.
PAUSE_S = 0.5
TOGETHER_MAX = 16  # Calls under way at a time, where their order does not matter.
AGAIN = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.ABORTED,  # An earlier try of the same import has not been given up yet.
}


class Sender:
    """Every request has ids of its own making, so that it can be sent as often as it takes."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self.again = 0  # Calls that had to be made anew.

    def stub(self, kind: Callable[[grpc.aio.Channel], Any]) -> Any:
        return kind(self._edge.channel)

    async def one(self, method: Any, request: Any) -> Any:
        """Raises AioRpcError, of a refusal or when patience has ended."""
        return await self._until_there(lambda who: method(request, metadata=who, timeout=CALL_S_MAX))

    async def all(self, method: Any, requests: Sequence[Any]) -> Any:
        """One call that streams them, and its answer. Raises AioRpcError, as above."""
        return await self._until_there(lambda who: method(iter(requests), metadata=who, timeout=CALL_S_MAX))

    async def together(self, method: Any, requests: Sequence[Any]) -> list[Any]:
        """A call for each: its answer, or the AioRpcError of its refusal."""
        room = asyncio.Semaphore(TOGETHER_MAX)

        async def each(request: Any) -> Any:
            async with room:
                try:
                    return await self.one(method, request)
                except grpc.aio.AioRpcError as error:
                    return error

        return await asyncio.gather(*map(each, requests))

    async def _until_there(self, begin: Callable[[Any], Awaitable[Any]]) -> Any:
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                return await begin(await self._edge.who())
            except grpc.aio.AioRpcError as error:
                if error.code() not in AGAIN or time.monotonic() > end:
                    raise
                self.again += 1
                await asyncio.sleep(PAUSE_S)


def reason(error: grpc.aio.AioRpcError) -> str:
    """Why it was refused, as a word."""
    info = error_details_pb2.ErrorInfo()
    status = rpc_status.from_call(error)  # type: ignore[arg-type] # It has what a call has.
    found = (info.reason for detail in (status.details if status else ()) if detail.Unpack(info))
    return next(found, error.code().name)
