"""SETTINGS (RFC 9113 §6.5): what a peer may ask for, and what holds until it asks."""

from dataclasses import dataclass
from enum import IntEnum
from struct import iter_unpack

from services.chassis.wire import frames
from services.chassis.wire.errors import ConnectionFault, ErrorCode
from services.chassis.wire.limits import Limits

UNLIMITED = 2**32 - 1  # The largest value that a setting can have: as good as none.
VALUES_MAX = 32  # Of a frame. There are a dozen settings, and a new window size visits each stream.


class Setting(IntEnum):
    """§6.5.2. Others are passed over, as §6.5.3 says."""

    HEADER_TABLE_SIZE = 0x1
    ENABLE_PUSH = 0x2
    MAX_CONCURRENT_STREAMS = 0x3
    INITIAL_WINDOW_SIZE = 0x4
    MAX_FRAME_SIZE = 0x5
    MAX_HEADER_LIST_SIZE = 0x6


@dataclass(slots=True)
class Settings:
    """What one side of a connection has said of itself; the defaults hold before it has."""

    header_table_bytes: int = 4096
    push: bool = True
    streams_max: int = UNLIMITED
    window_bytes: int = 65_535
    frame_bytes_max: int = frames.FRAME_BYTES_MIN
    header_list_bytes_max: int = UNLIMITED

    def apply(self, values: list[tuple[int, int]]) -> None:
        """Takes over what `parse` has checked, in its order (§6.5.3)."""
        for key, value in values:
            name = _FIELDS.get(key)
            if name is not None:
                setattr(self, name, value)


_FIELDS: dict[int, str] = {
    Setting.HEADER_TABLE_SIZE: "header_table_bytes",
    Setting.ENABLE_PUSH: "push",
    Setting.MAX_CONCURRENT_STREAMS: "streams_max",
    Setting.INITIAL_WINDOW_SIZE: "window_bytes",
    Setting.MAX_FRAME_SIZE: "frame_bytes_max",
    Setting.MAX_HEADER_LIST_SIZE: "header_list_bytes_max",
}
# §6.5.2: the values that may be sent; outside of them, the error.
_RANGES: dict[int, tuple[int, int, ErrorCode]] = {
    Setting.ENABLE_PUSH: (0, 1, ErrorCode.PROTOCOL_ERROR),
    Setting.INITIAL_WINDOW_SIZE: (0, frames.WINDOW_MAX, ErrorCode.FLOW_CONTROL_ERROR),
    Setting.MAX_FRAME_SIZE: (frames.FRAME_BYTES_MIN, frames.FRAME_BYTES_MAX, ErrorCode.PROTOCOL_ERROR),
}


def parse(stream_id: int, flags: int, payload: bytes, from_server: bool = False) -> list[tuple[int, int]]:
    """The settings of one frame, in order, checked. Of an ACK: none.

    A server may not offer push (§6.5.2).
    """
    if stream_id:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS on a stream")
    if len(payload) % 6 or (flags & frames.Flag.ACK and payload):
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"SETTINGS of {len(payload)} bytes")
    if len(payload) > 6 * VALUES_MAX:
        raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, f"SETTINGS of more than {VALUES_MAX} values")
    values = list(iter_unpack(">HI", payload))
    for key, value in values:
        low, high, code = _RANGES.get(key, (0, UNLIMITED, ErrorCode.PROTOCOL_ERROR))
        if from_server and key == Setting.ENABLE_PUSH:
            high = 0
        if not low <= value <= high:
            raise ConnectionFault(code, f"{Setting(key).name} of {value}")
    return values


def ours(limits: Limits) -> dict[int, int]:
    """What we say of ourselves, where it is not the default."""
    default = Settings()
    values = {
        Setting.HEADER_TABLE_SIZE: (limits.header_table_bytes_max, default.header_table_bytes),
        Setting.INITIAL_WINDOW_SIZE: (limits.stream_window_bytes, default.window_bytes),
        Setting.MAX_FRAME_SIZE: (limits.frame_bytes_max, default.frame_bytes_max),
        Setting.MAX_HEADER_LIST_SIZE: (limits.header_list_bytes_max, default.header_list_bytes_max),
    }
    return {int(key): value for key, (value, unsaid) in values.items() if value != unsaid}
