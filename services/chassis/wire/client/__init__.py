"""The client side: channels that generated grpcio stubs and callers of grpc.aio can use."""

from services.chassis.wire.client.backoff import Pace
from services.chassis.wire.client.channel import Channel
from services.chassis.wire.client.dial import client_context
from services.chassis.wire.client.endpoints import Endpoints, Fixed, Live
from services.chassis.wire.client.fields import ConfigError
from services.chassis.wire.client.options import Options
from services.chassis.wire.client.outcome import Metadata, RpcError, Status
from services.chassis.wire.client.requests import UsageError
from services.chassis.wire.client.service_config import ServiceConfig, parse

__all__ = [
    "Channel",
    "ConfigError",
    "Endpoints",
    "Fixed",
    "Live",
    "Metadata",
    "Options",
    "Pace",
    "RpcError",
    "ServiceConfig",
    "Status",
    "UsageError",
    "client_context",
    "parse",
]
