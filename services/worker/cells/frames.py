"""What worker, forker and cell tell each other: MessagePack, on sockets that only they have.

The control socket keeps the bounds of messages (SOCK_SEQPACKET) and carries the cell's descriptors; a cell's
own channel is a stream of frames, each with its length before it.
"""

from __future__ import annotations

import socket
import struct

import msgspec

from services.chassis.jobs.context import STATE_BYTES_MAX
from services.chassis.jobs.limits import Limits

CONTROL_BYTES_MAX = 16 * 1024  # A start or an end has a few hundred.
FRAME_BYTES_MAX = 2 * STATE_BYTES_MAX  # A payload, a checkpoint or a result with what is around it.
LENGTH = struct.Struct("!I")


class Start(msgspec.Struct, tag=True):
    """To the forker: fork a cell. Its channel and its output come along."""

    number: int
    limits: Limits


class Kill(msgspec.Struct, tag=True):
    """To the forker: send a cell's process this signal; SIGKILL goes to all below it, too."""

    number: int
    signal: int


class Ended(msgspec.Struct, tag=True):
    """From the forker: a cell and all below it are gone."""

    number: int
    status: int  # Exit status; negative: the signal that ended it.
    cpu_s: float
    crowded: bool  # It was ended for having more processes than it may.


class Task(msgspec.Struct, tag=True):
    """To the cell: what to run."""

    handler: str  # Its type.
    payload: bytes
    content_type: str
    facts: dict[str, str | int | float | dict[str, str] | None]
    state: bytes | None
    limits: Limits
    lifespans: bool  # Open them: the handler was not made for a process of its own.


class Progress(msgspec.Struct, tag=True):
    """From the cell."""

    percent: float
    message: str


class Line(msgspec.Struct, tag=True):
    """From the cell: a line of its log."""

    line: bytes  # A LogLine.


class Checkpoint(msgspec.Struct, tag=True):
    """From the cell, which waits for Kept."""

    state: bytes


class Kept(msgspec.Struct, tag=True):
    """To the cell."""

    refused: str  # Why it was not kept; empty: it was.


class Done(msgspec.Struct, tag=True):
    """From the cell: the last it says."""

    reason: int  # An EndReason.
    failure: bytes  # A Failure; empty: none.
    result: bytes
    result_type: str
    after_s: float | None


Control = Start | Kill | Ended
Frame = Task | Progress | Line | Checkpoint | Kept | Done

_encoder = msgspec.msgpack.Encoder()
_controls = msgspec.msgpack.Decoder(Control)
_frames = msgspec.msgpack.Decoder(Frame)


class BadFrame(ValueError):
    """A frame that is too long or is none: the cell's memory is damaged."""


def control(message: Control) -> bytes:
    return _encoder.encode(message)


def read_control(data: bytes) -> Control:
    message: Control = _controls.decode(data)
    return message


def frame(message: Frame) -> bytes:
    data = _encoder.encode(message)
    return LENGTH.pack(len(data)) + data


def read_frame(data: bytes) -> Frame:
    """Raises BadFrame."""
    try:
        message: Frame = _frames.decode(data)
    except msgspec.MsgspecError as error:
        raise BadFrame(str(error)) from error
    return message


def receive(channel: socket.socket) -> Frame | None:
    """The next frame of a blocking channel; None when the other side is gone."""
    head = _exactly(channel, LENGTH.size)
    body = _exactly(channel, LENGTH.unpack(head)[0]) if head else b""
    return read_frame(body) if body else None


def _exactly(channel: socket.socket, size: int) -> bytes:
    """Empty when the stream ends before."""
    if size > FRAME_BYTES_MAX:
        raise BadFrame(f"{size} bytes")
    parts = bytearray()
    while len(parts) < size:
        part = channel.recv(size - len(parts))
        if not part:
            return b""
        parts += part
    return bytes(parts)
