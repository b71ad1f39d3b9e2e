"""The gRPC servicers of queue, by noun, and what they share."""
