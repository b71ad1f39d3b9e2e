"""Reads declared cacheable: kept by the edge, stamped with an ETag, answered 304 to who has them.

A cache in front of the transcoder would be passed by on a miss, so these calls take two listeners: the
outer one validates and caches, the inner one (reached inside the process) transcodes and stamps. Only
paths without a query are kept: their number is the number of resources, while queries have no bound.
"""

from __future__ import annotations

from pathlib import Path

from .wire import HTTP_FILTERS, Json, contains, extension, idle, lua, on, typed, with_filters

INNER = "inner"  # the inner listener, and the cluster that leads to it
CACHE = "envoy.filters.http.cache_v2"
VALIDATE = "weft.lua.validate"
STAMP = "envoy.filters.http.lua"  # This name: the script reads the route's metadata by it.
TRANSCODER = "envoy.filters.http.grpc_json_transcoder"
LUA_FOLDER = Path(__file__).parent / "lua"


def outer(match: Json, route: Json) -> list[Json]:
    """Routes of a cacheable read at the edge."""
    action = {key: value for key, value in route["route"].items() if key != "retry_policy"}
    through = with_filters(
        {**route, "route": {**action, "cluster": INNER}},
        lua(VALIDATE, "validate"),
    )
    queried = {**match, "headers": [*match["headers"], contains(":path", "?")]}
    return [{"match": queried, **through}, {"match": match, **with_filters(through, {CACHE: on()})}]


def inner(route: Json) -> Json:
    """A cacheable read behind the cache."""
    notes = route["metadata"]["filter_metadata"]
    metadata = {"filter_metadata": {**notes, STAMP: {"max_age": notes["weft"]["max_age"]}}}
    return with_filters({**route, "metadata": metadata}, lua(STAMP, "stamp"))


def cache_filter() -> Json:
    """The cache, off but for routes that turn it on."""
    store = "envoy.extensions.http.cache_v2.simple_http_cache.v3.SimpleHttpCacheV2Config"
    return idle(extension(CACHE, HTTP_FILTERS + "cache_v2.v3.CacheV2Config", typed_config=typed(store)))


def lua_filter(name: str, *scripts: str) -> Json:
    """A Lua filter that runs no script but the one a route names."""
    sources = {
        script: {"inline_string": (LUA_FOLDER / f"{script}.lua").read_text("utf-8")} for script in scripts
    }
    # Scripts that change what a route is chosen by clear the choice themselves.
    return extension(name, HTTP_FILTERS + "lua.v3.Lua", source_codes=sources, clear_route_cache=False)


def cluster() -> Json:
    """The way into the inner listener."""
    address = {"envoy_internal_address": {"server_listener_name": INNER}}
    raw = extension(
        "envoy.transport_sockets.raw_buffer", "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"
    )
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
    return {
        "name": INNER,
        "type": "STATIC",
        "load_assignment": {"cluster_name": INNER, "endpoints": endpoints},
        "transport_socket": extension(
            "envoy.transport_sockets.internal_upstream",
            "envoy.extensions.transport_sockets.internal_upstream.v3.InternalUpstreamTransport",
            transport_socket=raw,
        ),
    }
