"""The shapes of all events that this build knows: what may start a workflow."""

from functools import cache
from importlib import import_module
from pathlib import Path

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import Message

import weft
from weft.options.v1 import options_pb2


@cache
def learn() -> None:
    """Loads every service's events.proto into the default pool."""
    for root in map(Path, weft.__path__):
        for file in sorted(root.glob("*/v*/*events_pb2.py")):
            import_module(".".join(("weft", *file.relative_to(root).with_suffix("").parts)))


def event(type_name: str) -> type[Message] | None:
    """The message's class. None: this build knows no such event."""
    learn()
    try:
        found = descriptor_pool.Default().FindMessageTypeByName(type_name)
    except KeyError:
        return None
    return (
        message_factory.GetMessageClass(found) if found.GetOptions().HasExtension(options_pb2.event) else None
    )
