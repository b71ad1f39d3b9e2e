"""Streams of xDS in either of its ways: what clients send, the words of the wire, and what they refuse."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

from google.protobuf.any_pb2 import Any as Packed

from envoy.service.discovery.v3.discovery_pb2 import (
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
    DiscoveryRequest,
    DiscoveryResponse,
    Resource as Told,
)
from services.chassis.errors import Refusal
from services.chassis.events import emit
from services.registry.domain.rejection import MESSAGE_CHARS_MAX, NODE_CHARS_MAX, Verdict, readable
from services.registry.domain.resource import Kind, Resource
from services.registry.domain.session import Answer, Asked
from services.registry.service.shared import Shared
from services.registry.store import rejection as rejections
from weft.registry.v1.events_pb2 import ConfigurationAccepted, ConfigurationRejected

REQUESTS_MAX = 64  # Read ahead of one stream; a client that writes faster waits.
GRPC_AGENT = "gRPC"  # How its clients' user agents begin.

log = logging.getLogger("weft.registry")


class Stream:
    """One client: what it has sent, and who it is."""

    def __init__(self, requests: AsyncIterator[Any], read: Callable[[Any], Asked]) -> None:
        self._requests, self._read = requests, read
        self._heard: asyncio.Queue[Any] = asyncio.Queue(REQUESTS_MAX)
        self.stirred = asyncio.Event()
        self.node_id, self.kind = "", Kind.ENVOY
        self.clean: set[str] = set()  # Types of which it is known that nothing is refused.
        self._reading = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        try:
            async for request in self._requests:
                await self._heard.put(request)
                self.stirred.set()
        finally:
            self.stirred.set()

    def taken(self) -> list[Asked]:
        """What has come since. Raises what reading raised."""
        found = []
        while not self._heard.empty():
            request = self._heard.get_nowait()
            if not self.node_id:
                self._meet(request)
            found.append(self._read(request))
        if not found and self._reading.done():
            self._reading.result()
        return found

    @property
    def ended(self) -> bool:
        return self._reading.done() and self._heard.empty()

    def _meet(self, request: Any) -> None:
        """Only the first request need say who sends it."""
        self.node_id = readable(request.node.id, NODE_CHARS_MAX) or "?"
        if request.node.user_agent_name.startswith(GRPC_AGENT):
            self.kind = Kind.GRPC

    def close(self) -> None:
        self._reading.add_done_callback(lambda reading: reading.cancelled() or reading.exception())
        self._reading.cancel()


async def note(shared: Shared, stream: Stream, verdict: Verdict | None) -> None:
    """Who refuses what can be asked for. Never a reason to end the stream."""
    if verdict is None or (not verdict.message and verdict.type_url in stream.clean):
        return
    try:
        await _write(shared, stream, verdict)
    except Refusal as refusal:
        log.warning("what %s said was not written down: %s", stream.node_id, refusal)


async def _write(shared: Shared, stream: Stream, verdict: Verdict) -> None:
    node_id, type_url = stream.node_id, verdict.type_url
    async with shared.db.transaction() as tx:
        if not verdict.message:
            if await rejections.accepted(tx, node_id, type_url):
                await emit(tx, ConfigurationAccepted(node_id=node_id, type_url=type_url))
        elif await rejections.refused(tx, node_id, verdict):
            await emit(tx, ConfigurationRejected(node_id=node_id, type_url=type_url, version=verdict.version))
    if verdict.message:
        stream.clean.discard(type_url)
        log.warning("%s refused %s %s: %s", node_id, type_url, verdict.version, verdict.message)
    else:
        stream.clean.add(type_url)


def asked(request: DiscoveryRequest) -> Asked:
    return Asked(
        type_url=request.type_url,
        names=frozenset(request.resource_names),
        nonce=request.response_nonce,
        version=request.version_info,
        error=_error(request),
    )


def asked_delta(request: DeltaDiscoveryRequest) -> Asked:
    return Asked(
        type_url=request.type_url,
        names=frozenset(request.resource_names_subscribe),
        dropped=frozenset(request.resource_names_unsubscribe),
        nonce=request.response_nonce,
        versions=dict(request.initial_resource_versions),
        error=_error(request),
    )


def _error(request: Any) -> str | None:
    if not request.HasField("error_detail"):
        return None
    return readable(request.error_detail.message, MESSAGE_CHARS_MAX)


def _packed(type_url: str, each: Resource) -> Packed:
    return Packed(type_url=type_url, value=each.body)


def response(answer: Answer) -> DiscoveryResponse:
    return DiscoveryResponse(
        version_info=answer.version,
        resources=[_packed(answer.type_url, each) for each in answer.resources],
        type_url=answer.type_url,
        nonce=answer.nonce,
    )


def delta_response(answer: Answer) -> DeltaDiscoveryResponse:
    return DeltaDiscoveryResponse(
        system_version_info=answer.version,
        resources=[
            Told(name=each.name, version=each.version, resource=_packed(answer.type_url, each))
            for each in answer.resources
        ],
        type_url=answer.type_url,
        removed_resources=answer.gone,
        nonce=answer.nonce,
    )
