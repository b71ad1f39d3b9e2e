"""Short forms of what an Envoy configuration repeats: typed extensions, durations, headers, matchers."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

Json = dict[str, Any]

TYPES = "type.googleapis.com/"
HTTP_FILTERS = "envoy.extensions.filters.http."


def typed(type_name: str, **values: Any) -> Json:
    """A message as Any."""
    return {"@type": TYPES + type_name, **values}


def extension(name: str, type_name: str, **values: Any) -> Json:
    """A named extension with its configuration."""
    return {"name": name, "typed_config": typed(type_name, **values)}


def seconds(duration: timedelta) -> str:
    """A duration as protobuf's JSON has it."""
    return f"{duration.total_seconds():g}s"


def header(name: str, value: str, action: str = "OVERWRITE_IF_EXISTS_OR_ADD") -> Json:
    """A header to set."""
    return {"header": {"key": name, "value": value}, "append_action": action}


def present(name: str) -> Json:
    """Matches a request that has the header."""
    return {"name": name, "present_match": True}


def absent(name: str) -> Json:
    """Matches a request that does not have the header."""
    return {"name": name, "present_match": True, "invert_match": True}


def equals(name: str, value: str) -> Json:
    """Matches a header's exact value."""
    return {"name": name, "string_match": {"exact": value}}


def contains(name: str, value: str) -> Json:
    """Matches a header that holds the text, in any case."""
    return {"name": name, "string_match": {"contains": value, "ignore_case": True}}


def begins(name: str, value: str) -> Json:
    """Matches a header by its beginning."""
    return {"name": name, "string_match": {"prefix": value}}


def unlike(name: str, regex: str) -> Json:
    """Matches a header whose whole value does not fit the expression; also its absence."""
    return {"name": name, "string_match": {"safe_regex": {"regex": regex}}, "invert_match": True}


def idle(filter_: Json) -> Json:
    """The filter, off but for routes that turn it on."""
    return {**filter_, "disabled": True}


def on() -> Json:
    """Turns a filter on for a route."""
    return typed("envoy.config.route.v3.FilterConfig", config={})


def off() -> Json:
    """Turns a filter off for a route."""
    return typed("envoy.config.route.v3.FilterConfig", disabled=True)


def with_filters(route: Json, config: Json) -> Json:
    """The route with further configuration of filters."""
    return {**route, "typed_per_filter_config": {**route.get("typed_per_filter_config", {}), **config}}


def lua(name: str, source: str) -> Json:
    """Runs one of the scripts of a Lua filter for a route."""
    return {name: typed(HTTP_FILTERS + "lua.v3.LuaPerRoute", name=source)}
