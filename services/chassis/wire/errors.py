"""What a peer can do wrong, and how far it reaches: the connection, one stream, or one call."""

from enum import IntEnum


class ErrorCode(IntEnum):
    """RFC 9113 §7."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD


class ConnectionFault(Exception):
    """The connection must end with GOAWAY (RFC 9113 §5.4.1); `reason` is its debug data."""

    def __init__(self, code: ErrorCode, reason: str) -> None:
        super().__init__(f"{code.name}: {reason}")
        self.code, self.reason = code, reason


class StreamFault(Exception):
    """One stream must end with RST_STREAM (RFC 9113 §5.4.2); the connection lives."""

    def __init__(self, stream_id: int, code: ErrorCode, reason: str) -> None:
        super().__init__(f"stream {stream_id}: {code.name}: {reason}")
        self.stream_id, self.code, self.reason = stream_id, code, reason


class HeaderListTooLong(Exception):
    """A header list above the bound that we advertise (RFC 9113 §10.5.1).

    The dynamic table is in step: the stream is refused, the connection lives.
    """

    def __init__(self, bytes_max: int) -> None:
        super().__init__(f"the header list is longer than {bytes_max} bytes")
        self.bytes_max = bytes_max
