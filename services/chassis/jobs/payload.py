"""What a job carries, between bytes and types: a protobuf message, a dataclass, bytes, or nothing.

Decoding is strict. A dataclass is JSON: no field missing, none unknown, no number for a text. A message
keeps the rules of its contract (buf.validate), and in JSON has no unknown field either.
"""

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import msgspec
from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message
from msgspec import inspect

from services.chassis.jobs.errors import BadPayload
from services.chassis.rpc import Malformed, check

PROTOBUF, JSON, BINARY = "application/x-protobuf", "application/json", "application/octet-stream"

TEXT_MAX = 500  # Of a parser's complaint; it quotes what it could not read.

MISSING = re.compile(r"Object missing required field `(.+?)`")
NO_SUCH = re.compile(r'has no field named "([^"]+)"(?: at "[^".]+\.?([^"]*)")?')
PLAIN = (
    inspect.IntType,
    inspect.FloatType,
    inspect.StrType,
    inspect.BoolType,
    inspect.NoneType,
    inspect.BytesType,
    inspect.DecimalType,
    inspect.UUIDType,
    inspect.DateTimeType,
    inspect.DateType,
    inspect.EnumType,
)
FAILED_TO_PARSE = re.compile(r"Failed to parse (\S+) field")


@dataclass(frozen=True, slots=True)
class Codec:
    """One type's way to bytes and back."""

    content_type: str  # Of what `encode` makes.
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes, str], Any]  # (bytes, their content type; empty: its own); raises BadPayload.


def codec(kind: Any) -> Codec:
    """For a message class, a dataclass, bytes or None. Raises TypeError for anything else."""
    return _codec(kind)


@cache
def _codec(kind: Any) -> Codec:
    if kind is None or kind is type(None):
        return Codec(BINARY, lambda value: b"", _nothing)
    if kind is bytes:
        return Codec(BINARY, lambda value: value, lambda data, content_type: data)
    if isinstance(kind, type) and issubclass(kind, Message):
        return Codec(protobuf_type(kind), _serialize, _message(kind))
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return Codec(JSON, msgspec.json.encode, _dataclass(kind))
    raise TypeError(f"a payload is a protobuf message, a dataclass, bytes or None, not {kind!r}")


def _nothing(data: bytes, content_type: str) -> None:
    if data:
        raise BadPayload("", f"must be empty, but has {len(data)} bytes")


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()


def _message(kind: type[Message]) -> Callable[[bytes, str], Message]:
    own, ruled = protobuf_type(kind), _ruled(kind.DESCRIPTOR)

    def decode(data: bytes, content_type: str) -> Message:
        if content_type in ("", own, PROTOBUF):
            message = _from_wire(kind, data)
        elif content_type == JSON:
            message = _from_json(kind, data)
        else:
            raise BadPayload("", f"must be {own} or {JSON}, not {content_type}")
        if ruled:
            _keep_rules(message)
        return message

    return decode


def protobuf_type(kind: type[Message]) -> str:
    """The media type of `kind` in the wire format."""
    return f"{PROTOBUF}; type={kind.DESCRIPTOR.full_name}"


def _from_wire(kind: type[Message], data: bytes) -> Message:
    try:
        return kind.FromString(data)
    except DecodeError:
        raise BadPayload("", f"is not a {kind.DESCRIPTOR.full_name} in the protobuf wire format") from None


def _from_json(kind: type[Message], data: bytes) -> Message:
    try:
        return json_format.Parse(data.decode(), kind())
    except (json_format.ParseError, ValueError, RecursionError) as error:
        words = str(error)[:TEXT_MAX]
        raise BadPayload(_field_of(words), words.split("\n")[0]) from None


def _field_of(words: str) -> str:
    if found := NO_SUCH.search(words):
        return f"{found[2]}.{found[1]}" if found[2] else found[1]
    return found[1] if (found := FAILED_TO_PARSE.search(words)) else ""


def _keep_rules(message: Message) -> None:
    try:
        check(message)
    except Malformed as malformed:
        first = malformed.violations()[0]
        raise BadPayload(first.field, first.description) from None


def _ruled(message: Any, seen: frozenset[str] = frozenset()) -> bool:
    """Whether a rule stands anywhere in the type; checking what has none would cost each job 5 us."""
    if message.full_name in seen:
        return False
    seen |= {message.full_name}
    return any(
        option.name.startswith("buf.validate") or option.full_name.startswith("buf.validate")
        for holder in (message, *message.fields, *message.oneofs)
        for option, _ in holder.GetOptions().ListFields()
    ) or any(_ruled(field.message_type, seen) for field in message.fields if field.message_type)


def _dataclass(kind: type[Any]) -> Callable[[bytes, str], Any]:
    flat = _flat_fields(kind)

    def decode(data: bytes, content_type: str) -> Any:
        if content_type not in ("", JSON):
            raise BadPayload("", f"must be {JSON}, not {content_type}")
        try:
            raw = msgspec.json.decode(data)
            value = msgspec.convert(raw, kind)
            if flat is None or not flat.issuperset(raw):
                _refuse_strangers(raw, msgspec.to_builtins(value), "")
        except msgspec.ValidationError as error:
            raise _violation(str(error)) from None
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise BadPayload("", f"is not JSON: {error}") from None
        return value

    return decode


def _flat_fields(kind: type[Any]) -> frozenset[str] | None:
    """The names of its fields, if none has fields of its own: then there is no more to look at."""
    told = inspect.type_info(kind)
    if not isinstance(told, inspect.DataclassType):
        return None
    kinds = [
        each
        for field in told.fields
        for each in (field.type.types if isinstance(field.type, inspect.UnionType) else (field.type,))
    ]
    plain = all(isinstance(each, PLAIN) for each in kinds)
    return frozenset(field.encode_name for field in told.fields) if plain else None


def _violation(words: str) -> BadPayload:
    """From msgspec's ``Expected `int`, got `str` - at `$.lines[2].price` ``."""
    rule, _, path = words.partition(" - at `$")
    path = path.rstrip("`").lstrip(".")
    if found := MISSING.fullmatch(rule):
        return BadPayload(f"{path}.{found[1]}".lstrip("."), "is required")
    return BadPayload(path, rule[:1].lower() + rule[1:])


def _refuse_strangers(came: Any, understood: Any, path: str) -> None:
    """Raises BadPayload for a field that came and was not understood."""
    if isinstance(came, dict) and isinstance(understood, dict):
        for name, value in came.items():
            here = f"{path}.{name}".lstrip(".")
            if name not in understood:
                raise BadPayload(here, "is no field that is known")
            _refuse_strangers(value, understood[name], here)
    elif isinstance(came, list) and isinstance(understood, list | tuple):
        for place, (one, other) in enumerate(zip(came, understood, strict=False)):
            _refuse_strangers(one, other, f"{path}[{place}]")
