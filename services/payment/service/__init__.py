"""The gRPC services of payment, one module each."""
