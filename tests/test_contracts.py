"""What every contract says: who may call, what is an event, what is personal; read from the protos' own options."""

import re
from importlib import import_module
from pathlib import Path

import pytest
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions

from weft.options.v1 import options_pb2

ROOT = Path(__file__).parent.parent
PROTOS = sorted(
    path.relative_to(ROOT / "protos").as_posix() for path in ROOT.glob("protos/weft/*/v*/*.proto")
)
EVENTS = [proto for proto in PROTOS if proto.endswith("/events.proto")]


def file(proto: str):  # type: ignore[no-untyped-def] # no stub names the type
    import_module(proto.removesuffix(".proto").replace("/", ".") + "_pb2")
    return descriptor_pool.Default().FindFileByName(proto)


def methods() -> list[MethodDescriptor]:
    return [
        method
        for proto in PROTOS
        for service in file(proto).services_by_name.values()
        for method in service.methods
    ]


METHODS = methods()


def permission(method: MethodDescriptor) -> options_pb2.Access:
    return method.GetOptions().Extensions[options_pb2.access]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.full_name)
def test_an_rpc_says_who_may_call_it(method: MethodDescriptor) -> None:
    access, service = permission(method), method.full_name.split(".")[1]
    rule = access.WhichOneof("rule")
    assert rule
    assert getattr(access, rule), "a rule that is false grants nothing to nobody"
    if rule == "permission":
        assert re.fullmatch(rf"{service}\.[a-z_]+\.[a-z_]+", access.permission)
    if access.own_field:
        assert rule == "permission"
        assert method.input_type.fields_by_name[access.own_field].type == FieldDescriptor.TYPE_STRING


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.full_name)
def test_an_rpc_tells_the_edge_nothing_that_it_may_not_do(method: MethodDescriptor) -> None:
    options = method.GetOptions()
    edge = options.Extensions[options_pb2.edge]
    if edge.HasField("cache"):
        assert permission(method).public
        assert options.idempotency_level == MethodOptions.NO_SIDE_EFFECTS
    assert bool(edge.sunset) <= options.deprecated
    assert bool(edge.deprecated_since) == bool(edge.sunset)


@pytest.mark.parametrize("proto", EVENTS)
def test_every_message_of_events_proto_is_an_event_with_a_key(proto: str) -> None:
    for message in file(proto).message_types_by_name.values():
        options = message.GetOptions()
        assert options.HasExtension(options_pb2.event), message.name
        event = options.Extensions[options_pb2.event]
        for named in filter(None, (event.key, event.subject)):
            assert message.fields_by_name[named].type == FieldDescriptor.TYPE_STRING, message.name
        assert event.key, message.name


@pytest.mark.parametrize("proto", EVENTS)
def test_events_carry_nothing_personal_and_nothing_secret(proto: str) -> None:
    marked = [found for message in file(proto).message_types_by_name.values() for found in sensitive(message)]
    assert marked == []


def sensitive(message: Descriptor, seen: frozenset[str] = frozenset()) -> list[str]:
    """Full names of the marked fields of a message, at any depth."""
    if message.full_name in seen:
        return []
    found = []
    for field in message.fields:
        options = field.GetOptions()
        if options.Extensions[options_pb2.personal] or options.Extensions[options_pb2.secret]:
            found.append(field.full_name)
        if field.message_type is not None:
            found += sensitive(field.message_type, seen | {message.full_name})
    return found
