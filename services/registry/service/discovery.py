"""envoy.service.discovery.v3.AggregatedDiscoveryService: tells Envoy and gRPC's xDS clients of the mesh.

Answers whoever reaches this process's port, as health does: it tells addresses, and takes nothing in but who
refused what, which is bounded.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from envoy.service.discovery.v3 import ads_pb2  # noqa: F401 - the service, which the chassis looks up
from envoy.service.discovery.v3.ads_pb2_grpc import AggregatedDiscoveryServiceServicer
from envoy.service.discovery.v3.discovery_pb2 import (
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
    DiscoveryRequest,
    DiscoveryResponse,
)
from services.chassis.method import Call
from services.registry.board import Board
from services.registry.domain.session import Answer, Delta, Session, StateOfTheWorld
from services.registry.service.shared import Shared
from services.registry.service.streams import Stream, asked, asked_delta, delta_response, note, response


class Discovery(AggregatedDiscoveryServiceServicer):  # type: ignore[misc]
    def __init__(self, shared: Shared, board: Board) -> None:
        self._shared, self._board = shared, board

    async def StreamAggregatedResources(
        self, requests: AsyncIterator[DiscoveryRequest], call: Call
    ) -> AsyncIterator[DiscoveryResponse]:
        async with aclosing(self._answers(Stream(requests, asked), StateOfTheWorld())) as answers:
            async for answer in answers:
                yield response(answer)

    async def DeltaAggregatedResources(
        self, requests: AsyncIterator[DeltaDiscoveryRequest], call: Call
    ) -> AsyncIterator[DeltaDiscoveryResponse]:
        async with aclosing(self._answers(Stream(requests, asked_delta), Delta())) as answers:
            async for answer in answers:
                yield delta_response(answer)

    async def _answers(self, stream: Stream, session: Session) -> AsyncGenerator[Answer, None]:
        try:
            with self._shared.room.one(), self._board.following(stream.stirred.set):
                while not stream.ended:
                    await stream.stirred.wait()
                    stream.stirred.clear()
                    for said in stream.taken():
                        await note(self._shared, stream, session.hear(said))
                    view = self._board.view(stream.kind)
                    if view is not None and session.types:
                        for answer in session.due(view):
                            yield answer
        finally:
            stream.close()
