"""Flow control (RFC 9113 §5.2, §6.9): what the peer may still send, and in which turn streams send.

Windows for sending are plain integers of stream and connection, for each message reads and writes them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.chassis.wire.errors import ErrorCode, StreamFault
from services.chassis.wire.frames import WINDOW_MAX

if TYPE_CHECKING:
    from services.chassis.wire.stream import Stream

TURN_BYTES_MAX = 262_144  # DATA of waiting streams in one turn of the loop; other work comes between turns.
SENT_FRAME_BYTES_MAX = 65_536  # However large a frame the peer takes: other streams come between two.


class Inflow:
    """The receive window of a stream or a connection: what was taken, and what is owed back to the peer."""

    __slots__ = ("_left", "_owed", "_size")

    def __init__(self, size: int) -> None:
        self._left = self._size = size
        self._owed = 0

    def take(self, size: int) -> bool:
        """Whether the peer was allowed to send these `size` bytes."""
        self._left -= size
        return self._left >= 0

    def take_and_give(self, size: int) -> int:
        """Both, for what is done with as it comes; below 0 when the peer was not allowed to send it."""
        self._left -= size
        if self._left < 0:
            return -1
        self._owed += size
        return self._due() if self._owed >= self._size >> 1 else 0

    def give(self, size: int) -> int:
        """The increment of the WINDOW_UPDATE that is due now that `size` bytes are done with; 0 for none.

        Half a window is saved up: an update for every frame would cost as much as the frame.
        """
        self._owed += size
        return self._due() if self._owed >= self._size >> 1 else 0

    def _due(self) -> int:
        due, self._owed = self._owed, 0
        self._left += due
        return due


def widened(window: int, increment: int, stream_id: int) -> int:
    """A window for sending after a WINDOW_UPDATE or a change of SETTINGS (§6.9.1, §6.9.2)."""
    window += increment
    if window > WINDOW_MAX:
        raise StreamFault(stream_id, ErrorCode.FLOW_CONTROL_ERROR, f"a window of {window} bytes")
    return window


class Turns:
    """Streams that have DATA to send and a window of their own for it, each in its turn."""

    __slots__ = ("waiting",)

    def __init__(self) -> None:
        self.waiting: dict[Stream, None] = {}  # In order of their turns.

    def __bool__(self) -> bool:
        return bool(self.waiting)

    def join(self, stream: Stream) -> None:
        self.waiting[stream] = None

    def leave(self, stream: Stream) -> None:
        self.waiting.pop(stream, None)

    def send(self, window: int, frame_bytes_max: int) -> int:
        """Lets one stream after the other send a frame; bytes sent, `window` at most."""
        waiting, left = self.waiting, min(window, TURN_BYTES_MAX)
        frame_bytes_max = min(frame_bytes_max, SENT_FRAME_BYTES_MAX)
        all_at_first = left
        while waiting and left:
            stream = next(iter(waiting))
            del waiting[stream]
            left -= stream.send_some(min(frame_bytes_max, left))
            if stream.may_send:
                waiting[stream] = None
        return all_at_first - left
