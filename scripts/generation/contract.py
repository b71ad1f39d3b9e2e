"""The compiled protos with their options and comments, as the generators and rules read them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import (
    Descriptor,
    EnumDescriptor,
    FieldDescriptor,
    FileDescriptor,
    MethodDescriptor,
    ServiceDescriptor,
)

# Of descriptor.proto: a parent's list of children, and that list's field number in a comment's path.
KINDS: dict[str, tuple[tuple[str, int], ...]] = {
    "FileDescriptorProto": (("message_type", 4), ("enum_type", 5), ("service", 6)),
    "DescriptorProto": (("field", 2), ("nested_type", 3), ("enum_type", 4), ("oneof_decl", 8)),
    "EnumDescriptorProto": (("value", 2),),
    "ServiceDescriptorProto": (("method", 2),),
}
Path = tuple[int, ...]  # Of a location in a file (descriptor.proto, SourceCodeInfo).
Named = Any  # Any descriptor that has a full name: upb's classes have no base in common.


class Contract:
    """All of an image; `names` are the files that are ours."""

    def __init__(self, image: descriptor_pb2.FileDescriptorSet, names: Iterable[str]) -> None:
        self.names = sorted(names)
        self._pool = _pool(image)
        self._options: dict[str, Any] = {}
        self._comments: dict[str, str] = {}
        # Parsed anew by a class of this pool: that one knows the extensions which the image brings,
        # whatever else the process has imported.
        kind = self._pool.FindMessageTypeByName("google.protobuf.FileDescriptorSet")
        parsed: Any = message_factory.GetMessageClass(kind)
        self.image = parsed.FromString(image.SerializeToString())
        for file in self.image.file:
            comments = {tuple(each.path): each for each in file.source_code_info.location}
            self._index(file, file.package, (), comments)

    @cached_property
    def files(self) -> list[FileDescriptor]:
        return [self._pool.FindFileByName(name) for name in self.names]

    @property
    def services(self) -> Iterator[ServiceDescriptor]:
        for file in self.files:
            yield from file.services_by_name.values()

    @property
    def methods(self) -> Iterator[MethodDescriptor]:
        for service in self.services:
            yield from service.methods

    @property
    def messages(self) -> Iterator[Descriptor]:
        """All of ours, nested ones behind those they stand in; a map's entries are not messages."""
        for file in self.files:
            for message in file.message_types_by_name.values():
                yield from _nested(message)

    def message(self, name: str) -> Descriptor:
        return self._pool.FindMessageTypeByName(name)

    def options(self, item: Named) -> Any:
        """The standard options, such as `deprecated`."""
        return self._options[item.full_name]

    def option(self, item: Named, name: str) -> Any:
        """The value of the extension called `name`; None when it is not set, or no file imports it."""
        options = self.options(item)
        try:
            extension = self._pool.FindExtensionByName(name)
        except KeyError:
            return None
        if extension.message_type and not options.HasExtension(extension):
            return None
        return options.Extensions[extension]

    def comment(self, item: Named) -> str:
        return self._comments.get(item.full_name, "")

    def value_comment(self, enum: EnumDescriptor, value: str) -> str:
        return self._comments.get(f"{enum.full_name}.{value}", "")

    def _index(self, item: Any, name: str, path: Path, comments: dict[Path, Any]) -> None:
        for children, number in KINDS.get(type(item).__name__, ()):
            for position, child in enumerate(getattr(item, children)):
                here, full_name = (*path, number, position), f"{name}.{child.name}".lstrip(".")
                self._options[full_name] = child.options
                if here in comments:
                    self._comments[full_name] = _text(comments[here])
                self._index(child, full_name, here, comments)


def is_map(field: FieldDescriptor) -> bool:
    return bool(field.message_type and field.message_type.GetOptions().map_entry)


def _pool(image: descriptor_pb2.FileDescriptorSet) -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    names = {file.name for file in image.file}
    if "google/protobuf/descriptor.proto" not in names:
        pool.AddSerializedFile(descriptor_pb2.DESCRIPTOR.serialized_pb)
    for file in image.file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


def _nested(message: Descriptor) -> Iterator[Descriptor]:
    if message.GetOptions().map_entry:
        return
    yield message
    for nested in message.nested_types:
        yield from _nested(nested)


def _text(location: Any) -> str:
    comment = location.leading_comments or location.trailing_comments
    lines = [line.removeprefix(" ").rstrip() for line in comment.strip("\n").split("\n")]
    # Cross references, `[UserCreated][]`, are for readers of the protos.
    return re.sub(r"\[([\w.]+)\]\[\]", r"`\1`", "\n".join(lines)).strip()
