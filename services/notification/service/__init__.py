"""The two gRPC services: messages, and the developer's mailbox."""
