"""envoy.service.secret.v3.SecretDiscoveryService: gives an Envoy its certificate and its roots.

It tells a private key, so it answers only who proves a service by the mesh's key, on a connection that stays
inside. The key is made here, for this stream, and kept nowhere; it is made anew with each certificate.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from envoy.service.discovery.v3.discovery_pb2 import (
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
    DiscoveryRequest,
    DiscoveryResponse,
)
from envoy.service.secret.v3 import sds_pb2  # noqa: F401 - the service, which the chassis looks up
from envoy.service.secret.v3.sds_pb2_grpc import SecretDiscoveryServiceServicer
from services.chassis.caller import MeshOnly
from services.chassis.clock import uuid7
from services.chassis.errors import Refusal
from services.chassis.method import Call
from services.registry.domain import authority as domain
from services.registry.domain.resource import SDS, View, resource
from services.registry.domain.session import Answer, Delta, Session, StateOfTheWorld
from services.registry.service.certificates import signed
from services.registry.service.shared import Shared
from services.registry.service.streams import Stream, asked, asked_delta, delta_response, note, response
from services.registry.signing import Authorities

CERTIFICATE, ROOTS = "mesh", "mesh-roots"  # Names of the two secrets.
AGAIN = timedelta(seconds=10)  # After a renewal that failed: an hour's third has a hundred such.

log = logging.getLogger("weft.registry")


@dataclass
class _Held:
    """What a stream was given last."""

    view: View
    renew_at: datetime


class Secrets(SecretDiscoveryServiceServicer):  # type: ignore[misc]
    def __init__(self, shared: Shared, authorities: Authorities) -> None:
        self._shared, self._authorities = shared, authorities

    async def StreamSecrets(
        self, requests: AsyncIterator[DiscoveryRequest], call: Call
    ) -> AsyncIterator[DiscoveryResponse]:
        session = StateOfTheWorld((SDS,))
        async with aclosing(self._answers(Stream(requests, asked), session, call)) as answers:
            async for answer in answers:
                yield response(answer)

    async def DeltaSecrets(
        self, requests: AsyncIterator[DeltaDiscoveryRequest], call: Call
    ) -> AsyncIterator[DeltaDiscoveryResponse]:
        session = Delta((SDS,))
        async with aclosing(self._answers(Stream(requests, asked_delta), session, call)) as answers:
            async for answer in answers:
                yield delta_response(answer)

    async def FetchSecrets(self, request: DiscoveryRequest, call: Call) -> DiscoveryResponse:
        session, held = StateOfTheWorld((SDS,)), await self._made(_name(self._authorities, call))
        session.hear(asked(request))
        return next(map(response, session.due(held.view)), DiscoveryResponse(type_url=SDS))

    async def _answers(self, stream: Stream, session: Session, call: Call) -> AsyncGenerator[Answer, None]:
        try:
            with self._shared.room.one():
                name = _name(self._authorities, call)
                held = await self._made(name)
                while not stream.ended:
                    stream.stirred.clear()
                    for said in stream.taken():
                        await note(self._shared, stream, session.hear(said))
                    for answer in session.due(held.view):
                        yield answer
                    await self._wait(stream, held.renew_at)
                    if held.renew_at <= self._shared.clock.now():
                        held = await self._renewed(name, held)
        finally:
            stream.close()

    async def _wait(self, stream: Stream, until: datetime) -> None:
        """For the client, or for the time to renew."""
        left_s = max(0.0, (until - self._shared.clock.now()).total_seconds())
        waits = [
            asyncio.create_task(stream.stirred.wait()),
            asyncio.create_task(self._shared.clock.sleep(left_s)),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()

    async def _renewed(self, name: domain.Name, held: _Held) -> _Held:
        """What the client has is good for a third of its life yet: it stays when there is no other."""
        try:
            return await self._made(name)
        except Refusal as refusal:
            log.warning("%s keeps its certificate for now: %s", name, refusal)
            return _Held(held.view, self._shared.clock.now() + AGAIN)

    async def _made(self, name: domain.Name) -> _Held:
        from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret  # Nobody else needs it.

        key = ec.generate_private_key(ec.SECP256R1())
        made = await signed(self._shared, self._authorities, key.public_key(), name, self._authorities.life)
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        own, roots = Secret(name=CERTIFICATE), Secret(name=ROOTS)
        own.tls_certificate.certificate_chain.inline_bytes = made.chain.encode()
        own.tls_certificate.private_key.inline_bytes = pem
        roots.validation_context.trusted_ca.inline_bytes = made.trusted.encode()
        found = {secret.name: resource(secret.name, secret) for secret in (own, roots)}
        return _Held({SDS: found}, made.renew_at)


def _name(authorities: Authorities, call: Call) -> domain.Name:
    """New at each stream. Raises MeshOnly."""
    if not call.caller.via:
        raise MeshOnly
    return domain.Name(authorities.trust_domain, call.caller.via, uuid7())
