"""Fields of a JSON object, read by protobuf's JSON mapping; what is wrong is told with its place."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import grpc

T = TypeVar("T")

DURATION_S_MAX = 315_576_000_000  # google.protobuf.Duration's own bound.
UINT32_MAX = 2**32 - 1  # Sizes are google.protobuf.UInt32Value.

_DURATION = re.compile(r"(\d{0,12})(?:\.(\d{0,9}))?s")
_BY_NAME = {code.name: code for code in grpc.StatusCode}
_BY_NUMBER = {code.value[0]: code for code in grpc.StatusCode}


class ConfigError(ValueError):
    """A service config that cannot be followed; the message names the field."""


class Fields:
    """A JSON object that knows its place, such as `methodConfig[2].retryPolicy`."""

    def __init__(self, where: str, value: Any) -> None:
        if not isinstance(value, dict):
            raise ConfigError(f"{where or 'service config'}: an object is wanted")
        self.where, self._value = where, value

    def at(self, name: str) -> str:
        return f"{self.where}.{name}" if self.where else name

    def names(self) -> list[str]:
        return list(self._value)

    def holds(self, name: str) -> bool:
        """JSON's null is the same as absence."""
        return self._value.get(name) is not None

    def get(self, name: str, read: Callable[[str, Any], T]) -> T | None:
        return read(self.at(name), self._value[name]) if self.holds(name) else None

    def need(self, name: str, read: Callable[[str, Any], T]) -> T:
        if not self.holds(name):
            raise ConfigError(f"{self.at(name)}: is required")
        return read(self.at(name), self._value[name])

    def inside(self, name: str, read: Callable[[Fields], T]) -> T | None:
        """What `read` makes of the object in that field."""
        return read(Fields(self.at(name), self._value[name])) if self.holds(name) else None

    def each(self, name: str) -> list[Fields]:
        values = self.get(name, listed) or []
        return [Fields(f"{self.at(name)}[{index}]", value) for index, value in enumerate(values)]


def listed(where: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ConfigError(f"{where}: a list is wanted")
    return value


def text(where: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"{where}: a string is wanted")
    return value


def truth(where: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{where}: true or false is wanted")
    return value


def number(where: str, value: Any) -> float:
    """Above zero."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise ConfigError(f"{where}: a number greater than zero is wanted")
    return float(value)


def whole(where: str, value: Any) -> int:
    """A whole number, also written as 4.0 or "4"."""
    if isinstance(value, str) and re.fullmatch(r"\d{1,10}", value):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= UINT32_MAX:
        raise ConfigError(f"{where}: a whole number from 0 to {UINT32_MAX} is wanted")
    return value


def at_least(least: int) -> Callable[[str, Any], int]:
    def read(where: str, value: Any) -> int:
        if (found := whole(where, value)) < least:
            raise ConfigError(f"{where}: must be {least} or more")
        return found

    return read


def duration(where: str, value: Any) -> float:
    """Seconds of `1.5s`; zero is one."""
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None or not (found[1] or found[2]) or float(found[1] or 0) > DURATION_S_MAX:
        raise ConfigError(f'{where}: a duration such as "1.5s" is wanted')
    return float(value[:-1])


def delay(where: str, value: Any) -> float:
    """A duration above zero."""
    if (found := duration(where, value)) <= 0:
        raise ConfigError(f"{where}: must be greater than zero")
    return found


def codes(where: str, value: Any) -> frozenset[grpc.StatusCode]:
    """Status codes by name, in any case, or by number."""
    return frozenset(_code(f"{where}[{index}]", each) for index, each in enumerate(listed(where, value)))


def some_codes(where: str, value: Any) -> frozenset[grpc.StatusCode]:
    if not (found := codes(where, value)):
        raise ConfigError(f"{where}: must name a status code")
    return found


def _code(where: str, value: Any) -> grpc.StatusCode:
    known = _BY_NAME.get(value.upper()) if isinstance(value, str) else None
    if isinstance(value, int) and not isinstance(value, bool):
        known = _BY_NUMBER.get(value)
    if known is None:
        raise ConfigError(f"{where}: no status code is called {value!r}")
    return known
