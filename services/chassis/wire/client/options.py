"""What a channel is made with."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field

import grpc

from services.chassis.wire.client.backoff import Pace
from services.chassis.wire.client.service_config import ServiceConfig
from services.chassis.wire.limits import Limits

CALLS_WAITING_MAX = 10_000  # For a connection or a stream; then callers learn that there is no room.
REPLAY_BYTES_MAX = 256 * 1024  # Of one call, kept for another attempt: gRPC's default.
REPLAY_TOTAL_BYTES_MAX = 16 * 1024 * 1024  # Of all calls of a channel; further ones are not tried again.


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The defaults are those of a channel inside a machine room."""

    tls: ssl.SSLContext | None = None  # Made by `tls.client_context`, or any other that offers ALPN h2.
    server_name: str = ""  # Whom the certificate must name, where that is not the endpoint's host.
    authority: str = ""  # `:authority` of every call; by default the target's.
    user_agent: str = "grpc-python-wire/1"
    config: ServiceConfig = field(default_factory=ServiceConfig)
    limits: Limits = field(default_factory=Limits)
    pace: Pace = field(default_factory=Pace)
    compression: grpc.Compression = grpc.Compression.NoCompression
    request_bytes_max: int | None = (
        None  # The service config may say less; None: as much as the server takes.
    )
    calls_waiting_max: int = CALLS_WAITING_MAX
    replay_bytes_max: int = REPLAY_BYTES_MAX
    replay_total_bytes_max: int = REPLAY_TOTAL_BYTES_MAX
    metadata: Sequence[tuple[str, str | bytes]] = ()  # Sent with every call.
