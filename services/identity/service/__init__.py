"""The gRPC servicers of identity, by noun, and what they share."""
