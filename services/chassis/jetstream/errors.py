"""What can go wrong between this client and its server."""


class JetStreamError(Exception):
    """Any failure that this client names."""


class Disconnected(JetStreamError, ConnectionError):
    """No server is connected, or the connection ended before the answer: the outcome is not known."""


class Unauthorized(JetStreamError):
    """The server did not accept the credentials, or asked for those that are not there."""


class Insecure(JetStreamError):
    """TLS was asked for, and the server does not offer it."""


class ProtocolError(JetStreamError):
    """The server sent what is not the NATS protocol, or the caller what cannot be sent by it."""


class NoResponders(JetStreamError):
    """Nobody listens there: no such stream or consumer, or no leader of it at the moment."""


class TooLarge(JetStreamError, ValueError):
    """A message is larger than the server takes."""


class Overrun(JetStreamError):
    """More is waiting than a bound allows: the server is slower than its callers."""


class NotStored(JetStreamError):
    """JetStream did not confirm in time. It may have stored the message; the same id may be tried again."""


class Refused(JetStreamError):
    """JetStream answered with an error."""

    def __init__(self, code: int, err_code: int, description: str) -> None:
        """`code` is like HTTP's, `err_code` the number in JetStream's own list of errors."""
        super().__init__(f"{description} ({err_code or code})")
        self.code, self.err_code, self.description = code, err_code, description
