"""Field masks (AIP-134) and etags (AIP-154)."""

import base64
import hashlib
from collections.abc import Collection
from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from services.chassis.errors import Aborted, InvalidArgument

ALL = "*"
ETAG_BYTES = 12


class BadMask(InvalidArgument):
    """`{path}` cannot be updated here."""

    def __init__(self, path: str) -> None:
        super().__init__(path=path, field="update_mask")


class EtagMismatch(Aborted):
    """It has changed since it was read: its etag is {current} now, not {given}."""


def masked_paths(source: Message, mask: FieldMask, allowed: Collection[str]) -> list[str]:
    """The paths to take over, in the order of `allowed`. Raises BadMask.

    An empty mask means every allowed field that `source` has set; `*` every allowed field. A path may name
    a whole message of which only parts are allowed; then it means those parts.
    """
    if not mask.paths:
        return [path for path in allowed if _is_set(source, path)]
    wanted = list(allowed) if list(mask.paths) == [ALL] else []
    for path in mask.paths:
        if path == ALL and wanted:
            continue
        covered = [ours for ours in allowed if ours == path or ours.startswith(f"{path}.")]
        if not covered and any(path.startswith(f"{ours}.") for ours in allowed) and _exists(source, path):
            covered = [path]
        if not covered:
            raise BadMask(path)
        wanted += covered
    return list(dict.fromkeys(wanted))


def apply_mask(target: Message, source: Message, mask: FieldMask, allowed: Collection[str]) -> list[str]:
    """Takes the masked fields of `source` over into `target`. Returns their paths. Raises BadMask."""
    paths = masked_paths(source, mask, allowed)
    for path in paths:
        *parents, name = path.split(".")
        into, came = target, source
        for parent in parents:
            into, came = getattr(into, parent), getattr(came, parent)
        _replace(into, came, name)
    return paths


def _replace(into: Message, came: Message, name: str) -> None:
    field = came.DESCRIPTOR.fields_by_name[name]
    into.ClearField(name)
    if field.is_repeated or field.message_type is not None:
        if field.is_repeated or came.HasField(name):
            getattr(into, name).MergeFrom(getattr(came, name))
    elif not field.has_presence or came.HasField(name):
        setattr(into, name, getattr(came, name))


def _exists(message: Message, path: str) -> bool:
    descriptor: Any = message.DESCRIPTOR
    for name in path.split("."):
        field = descriptor.fields_by_name.get(name) if descriptor else None
        if field is None:
            return False
        descriptor = None if field.is_repeated else field.message_type
    return True


def _is_set(message: Message, path: str) -> bool:
    """Whether the field is populated: present, or not its default."""
    *parents, name = path.split(".")
    for parent in parents:
        if not message.HasField(parent):
            return False
        message = getattr(message, parent)
    return any(field.name == name for field, _ in message.ListFields())


def etag(source: Message | int) -> str:
    """Of a row's version, or of all that a message says."""
    content = (
        str(source).encode() if isinstance(source, int) else source.SerializeToString(deterministic=True)
    )
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()[:ETAG_BYTES]).decode()


def check_etag(given: str, current: Message | int) -> None:
    """Raises EtagMismatch. An empty `given` and `*` ask for no check."""
    now = etag(current)
    if given.strip('"') not in ("", ALL, now):
        raise EtagMismatch(given=given, current=now)
