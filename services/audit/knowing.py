"""The shapes of all events that this build knows, to show an entry's payload to people."""

from importlib import import_module
from pathlib import Path

from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import Struct

import weft
from weft.options.v1 import options_pb2


def learn() -> None:
    """Loads every service's events.proto into the default pool."""
    for root in map(Path, weft.__path__):
        for file in sorted(root.glob("*/v*/events_pb2.py")):
            import_module(".".join(("weft", *file.relative_to(root).with_suffix("").parts)))


def asks(type_name: str) -> bool:
    """Whether events of the type ask for something: what they carry is not ours to keep for years."""
    try:
        found = descriptor_pool.Default().FindMessageTypeByName(type_name)
    except KeyError:
        return False
    return bool(found.GetOptions().Extensions[options_pb2.event].request)


def fields(type_name: str, payload: bytes) -> Struct | None:
    """None when the type is unknown here or the payload is none of it."""
    try:
        found = descriptor_pool.Default().FindMessageTypeByName(type_name)
        message = message_factory.GetMessageClass(found).FromString(payload)
    except (KeyError, DecodeError):
        return None
    shown = Struct()
    shown.update(json_format.MessageToDict(message, preserving_proto_field_name=True))
    return shown
