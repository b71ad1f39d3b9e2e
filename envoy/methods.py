"""The mesh's methods as the edge sees them, read from the descriptor set with their options."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from google.api import annotations_pb2, http_pb2
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.rpc import error_details_pb2, status_pb2

from .statuses import raw_response
from .templates import Template

ROOT = "weft."
TIMEOUT = timedelta(seconds=15)  # options.proto, Edge.timeout
REQUEST_BYTES_MAX = 1 << 20  # options.proto, Edge.request_bytes_max
VERBS = ("get", "put", "post", "delete", "patch")
# Types that google.rpc.Status carries as Any: the transcoder prints only what the set defines.
DETAILS = (error_details_pb2.DESCRIPTOR, status_pb2.DESCRIPTOR)


class BadContract(ValueError):
    """A proto says something that the edge cannot do."""


@dataclass(frozen=True)
class Binding:
    """One REST door of a method."""

    verb: str
    template: Template
    body: str


@dataclass(frozen=True)
class Limit:
    """A token bucket: `calls` more each `interval`, at most `burst` at once."""

    calls: int
    interval: timedelta
    burst: int


RATE_LIMIT = Limit(calls=100, interval=timedelta(seconds=1), burst=200)  # options.proto, Edge.rate_limit


@dataclass(frozen=True)
class Method:
    """One rpc and what its options ask of the edge."""

    service: str  # the folder's name: `identity` of weft.identity.v1
    interface: str  # full name of the proto service
    name: str
    access: str  # public, signed_in, permission, internal
    idempotent: bool
    client_streaming: bool
    server_streaming: bool
    raw_request: bool  # the body is a google.api.HttpBody: any media type
    raw_response: bool  # the answer is one: its service may choose the HTTP status
    bindings: tuple[Binding, ...]
    timeout: timedelta
    request_bytes_max: int
    rate_limit: Limit
    cache: timedelta
    headers: tuple[tuple[str, str], ...]  # what each answer says of the method's end

    @property
    def path(self) -> str:
        """The path gRPC calls it by."""
        return f"/{self.interface}/{self.name}"

    @property
    def full_name(self) -> str:
        """`weft.identity.v1.UserService.GetUser`"""
        return f"{self.interface}.{self.name}"

    @cached_property
    def version(self) -> int:
        """N of the package's `vN`."""
        return int(self.interface.split(".")[2].removeprefix("v"))


class Contract:
    """All methods of a descriptor set, and the set as the transcoder wants it."""

    def __init__(self, path: Path) -> None:
        self._set = _complete(descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes()))
        pool = descriptor_pool.DescriptorPool()
        for file in self._set.file:
            pool.Add(file)
        # The set's own classes, not the installed ones: only these know the set's own options.
        self._options: Any = message_factory.GetMessageClass(
            pool.FindMessageTypeByName("google.protobuf.MethodOptions")
        )
        self._extension: dict[str, Any] = {
            name: pool.FindExtensionByName(f"weft.options.v1.{name}") for name in ("access", "edge")
        }
        self.methods = [
            self._method(method)
            for file in self._set.file
            if file.package.startswith(ROOT)
            for service in file.service
            for method in pool.FindServiceByName(f"{file.package}.{service.name}").methods
        ]

    @property
    def binary(self) -> bytes:
        """The completed set."""
        return self._set.SerializeToString(deterministic=True)

    @property
    def interfaces(self) -> list[str]:
        """Full names of the proto services."""
        return sorted({method.interface for method in self.methods})

    @property
    def services(self) -> dict[str, str]:
        """Each service's folder and the proto service that its health is asked by."""
        by_service = itertools.groupby(
            sorted(self.methods, key=lambda method: (method.service, method.interface)),
            key=lambda method: method.service,
        )
        return {service: next(methods).interface for service, methods in by_service}

    @property
    def versions(self) -> list[int]:
        """The API's versions."""
        return sorted({method.version for method in self.methods}) or [1]

    def _method(self, method: MethodDescriptor) -> Method:
        options = self._options.FromString(method.GetOptions().SerializeToString())
        access = options.Extensions[self._extension["access"]].WhichOneof("rule")
        if access is None:
            raise BadContract(f"{method.full_name} has no (weft.options.v1.access)")
        edge = options.Extensions[self._extension["edge"]]
        bindings = tuple(_binding(rule) for rule in _rules(method))
        streaming = method.client_streaming or method.server_streaming
        read = Method(
            service=method.full_name.split(".")[1],
            interface=method.containing_service.full_name,
            name=method.name,
            access=access,
            idempotent=options.idempotency_level != 0,
            client_streaming=method.client_streaming,
            server_streaming=method.server_streaming,
            raw_request=_raw(method, bindings),
            raw_response=any(raw_response(method, rule) for rule in _rules(method)),
            bindings=bindings,
            timeout=_seconds(edge.timeout) or (timedelta() if streaming else TIMEOUT),
            request_bytes_max=edge.request_bytes_max or REQUEST_BYTES_MAX,
            rate_limit=_limit(edge) if edge.HasField("rate_limit") else RATE_LIMIT,
            cache=_seconds(edge.cache),
            headers=tuple(_end(edge)),
        )
        if read.cache and (access != "public" or options.idempotency_level != 1):
            raise BadContract(f"{method.full_name}: only public NO_SIDE_EFFECTS methods can be cached")
        return read


def _complete(files: descriptor_pb2.FileDescriptorSet) -> descriptor_pb2.FileDescriptorSet:
    """The set with the types of error details, imports before importers."""
    known = {file.name for file in files.file}
    wanted = list(DETAILS)
    while wanted:
        descriptor = wanted.pop()
        wanted.extend(descriptor.dependencies)
        if descriptor.name not in known:
            known.add(descriptor.name)
            descriptor.CopyToProto(files.file.add())
    by_name = {file.name: file for file in files.file}
    ordered: dict[str, descriptor_pb2.FileDescriptorProto] = {}

    def place(name: str) -> None:
        if name not in ordered and name in by_name:
            for dependency in by_name[name].dependency:
                place(dependency)
            ordered[name] = by_name[name]

    for name in by_name:
        place(name)
    return descriptor_pb2.FileDescriptorSet(file=ordered.values())


def _rules(method: MethodDescriptor) -> list[http_pb2.HttpRule]:
    options = descriptor_pb2.MethodOptions.FromString(method.GetOptions().SerializeToString())
    if not options.HasExtension(annotations_pb2.http):
        return []
    rule = options.Extensions[annotations_pb2.http]
    return [rule, *rule.additional_bindings]


def _binding(rule: http_pb2.HttpRule) -> Binding:
    verb = rule.WhichOneof("pattern")
    if verb == "custom":
        return Binding(rule.custom.kind.upper(), Template(rule.custom.path), rule.body)
    return Binding(str(verb).upper(), Template(getattr(rule, str(verb))), rule.body)


def _raw(method: MethodDescriptor, bindings: tuple[Binding, ...]) -> bool:
    for binding in bindings:
        body: Descriptor | None = method.input_type
        if binding.body not in ("", "*"):
            body = method.input_type.fields_by_name[binding.body].message_type
        if body is not None and body.full_name == "google.api.HttpBody":
            return True
    return False


def _seconds(duration: Any) -> timedelta:
    return timedelta(seconds=duration.seconds, microseconds=duration.nanos // 1000)


def _limit(edge: Any) -> Limit:
    limit = edge.rate_limit
    if not limit.calls:
        raise BadContract("a rate limit of no calls: use `internal` to close a method")
    return Limit(
        limit.calls, _seconds(limit.interval) or timedelta(seconds=1), limit.burst or 2 * limit.calls
    )


def _end(edge: Any) -> list[tuple[str, str]]:
    """Deprecation (RFC 9745) and Sunset (RFC 8594)."""
    headers = []
    if edge.deprecated_since:
        headers.append(("deprecation", f"@{int(_midnight(edge.deprecated_since).timestamp())}"))
    if edge.sunset:
        headers.append(("sunset", format_datetime(_midnight(edge.sunset), usegmt=True)))
    return headers


def _midnight(day: str) -> datetime:
    return datetime.combine(date.fromisoformat(day), datetime.min.time(), UTC)
