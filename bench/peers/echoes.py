"""What every echo server answers: three methods of any bytes."""

from typing import Any

import grpc

SERVICE = "bench.Echo"
MANY = 1_000  # Messages of one stream.


def registered(unary: Any, many: Any, each: Any) -> grpc.GenericRpcHandler:
    """For servers of grpcio's interface; messages stay bytes."""
    methods = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Many": grpc.unary_stream_rpc_method_handler(many),
        "Each": grpc.stream_stream_rpc_method_handler(each),
    }
    return grpc.method_handlers_generic_handler(SERVICE, methods)
