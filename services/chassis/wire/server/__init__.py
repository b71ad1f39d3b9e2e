"""The serving side: `Server` hosts what `add_XServicer_to_server` registers, on ports of its own."""

from services.chassis.wire.server.call import Call, Refused, Route
from services.chassis.wire.server.ports import tls
from services.chassis.wire.server.server import Server

__all__ = ["Call", "Refused", "Route", "Server", "tls"]
