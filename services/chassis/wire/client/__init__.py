"""The client side: channels that generated grpcio stubs and callers of grpc.aio can use."""
