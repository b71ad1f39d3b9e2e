"""Between bytes and the messages of a method."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from grpc import StatusCode

from services.chassis.wire.server.call import Refused

log = logging.getLogger(__name__)


class Coding:
    """A method's deserializer and serializer; without one, messages are bytes."""

    __slots__ = ("_deserialize", "_serialize")

    def __init__(
        self, deserialize: Callable[[bytes], Any] | None, serialize: Callable[[Any], bytes] | None
    ) -> None:
        self._deserialize, self._serialize = deserialize, serialize

    def decode(self, request: bytes) -> Any:
        """Raises Refused: what came is no request."""
        if self._deserialize is None:
            return request
        try:
            return self._deserialize(request)
        except Exception as error:
            raise Refused(StatusCode.INTERNAL, "Exception deserializing request!") from error

    def encode(self, response: Any) -> bytes:
        """Raises Refused or TypeError: a bug of the handler."""
        if self._serialize is None:
            if not isinstance(response, bytes):
                raise TypeError(f"a response is of type {type(response).__name__}, not bytes")
            return response
        try:
            return self._serialize(response)
        except Exception as error:
            log.exception("a response could not be serialized")
            raise Refused(StatusCode.INTERNAL, "Failed to serialize response!") from error
