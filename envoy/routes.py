"""Routes of every door, from the methods' options.

Each method is a gRPC route and one route for each REST binding, with its limits, its rule about tokens and
its time. A tree of literal prefixes comes first, so that a call compares with few expressions.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from . import cache, forwarding, limits, statuses, versions
from .cache import INNER, TRANSCODER
from .forwarding import BUFFER, Door
from .methods import Binding, Method
from .refusals import refuse
from .wire import (
    Json,
    begins,
    contains,
    equals,
    extension,
    lua,
    on,
    present,
    unlike,
    with_filters,
)

STREAMER = "weft.transcoder.events"  # The transcoder that writes server-sent events.
HEAD = "weft.lua.head"
VERSION = "weft.lua.version"
GRPC = "application/grpc"
EVENTS = "text/event-stream"
JSON_MEDIA = r"(?i)application/(json|vnd\.weft\.v\d+\+json)\s*(;.*)?"


@dataclass
class Tree:
    """Routes by the literal beginning of their path, the more specific first."""

    branches: dict[str, list[Json]] = field(default_factory=dict)
    first: list[Json] = field(default_factory=list)  # tried before all others
    trunk: list[Json] = field(default_factory=list)  # tried where no branch has a route
    closed: set[str] = field(default_factory=set)  # branches that refuse by themselves what they do not have

    def virtual_host(self, name: str) -> Json:
        """The host that serves all names."""
        prefixes = {prefix: _action(self._reachable(prefix)) for prefix in self.branches}
        matcher: Json = {"on_no_match": _action(self.first + self.trunk)}
        if prefixes:
            path = extension(
                "path",
                "envoy.type.matcher.v3.HttpRequestHeaderMatchInput",
                header_name=":path",
            )
            matcher["matcher_tree"] = {"input": path, "prefix_match_map": {"map": prefixes}}
        return {"name": name, "domains": ["*"], "matcher": matcher}

    def _reachable(self, prefix: str) -> list[Json]:
        """Envoy looks at the longest prefix only, so it holds the shorter ones' routes too."""
        if prefix in self.closed:
            return self.first + self.branches[prefix]
        shorter = [each for each in self.branches if f"{prefix}/".startswith(f"{each.rstrip('/')}/")]
        shorter.sort(key=len, reverse=True)
        return [*self.first, *(route for each in shorter for route in self.branches[each]), *self.trunk]


def tree(methods: Iterable[Method], known_versions: list[int], door: Door) -> Tree:
    """All routes of a door."""
    grown = Tree(
        first=[_preflight()] if door.public else [],
        trunk=_unknown(known_versions) if door.rest else [{"match": {"prefix": "/"}, **_nowhere()}],
    )
    served = [method for method in methods if not (door.public and method.access == "internal")]
    for method in served:
        grown.branches.setdefault(f"/{method.interface}/", []).append(_grpc(method, door))
    for interface in {method.interface for method in served}:
        grown.branches[f"/{interface}/"] += _not_grpc(f"/{interface}/")
        grown.closed.add(f"/{interface}/")
    if door.rest:
        _rest(grown, served, door)
    return grown


def _rest(grown: Tree, methods: list[Method], door: Door) -> None:
    doors = [(binding, method) for method in methods for binding in method.bindings]
    doors.sort(key=lambda each: each[0].template.rank)
    prefixes = {binding.template.prefix: method.version for binding, method in doors}
    for prefix, version in prefixes.items():
        line = f"Another API version is named than the path's; available here: v{version}."
        grown.branches[prefix] = versions.refusals([version], line) if prefix.startswith("/v") else []
    for binding, method in doors:
        grown.branches[binding.template.prefix] += _transcoded(method, binding, door)
    verbs: dict[str, set[str]] = {}
    for binding, _ in doors:
        verbs.setdefault(binding.template.bare, set()).add(binding.verb)
    for bare, binding in {binding.template.bare: binding for binding, _ in doors}.items():
        grown.branches[binding.template.prefix] += _other_verbs(binding, verbs[bare])


def _grpc(method: Method, door: Door) -> Json:
    match = {"path": method.path, "headers": [equals(":method", "POST"), begins("content-type", GRPC)]}
    return {"match": match, **forwarding.route(method, method.path, door)}


def _not_grpc(prefix: str) -> list[Json]:
    """Calls of a proto service's paths that no method takes."""
    line = "No such method."
    return [
        {"match": {"prefix": prefix, "headers": [begins("content-type", GRPC)]}, **refuse(404, line)},
        {
            "match": {"prefix": prefix, "headers": [equals(":method", "POST")]},
            **refuse(
                415, "gRPC or gRPC-Web is spoken here: content-type application/grpc, application/grpc-web."
            ),
        },
        {"match": {"prefix": prefix}, **refuse(405, "gRPC methods are called by POST.", ("allow", "POST"))},
    ]


def _transcoded(method: Method, binding: Binding, door: Door) -> list[Json]:
    """Routes of one REST binding."""
    path = _path(binding)
    match: Json = {**path, "headers": [equals(":method", binding.verb)]}
    forward = forwarding.route(method, binding.template.bare, door)
    if method.raw_response and door.public:
        forward = statuses.chosen(forward)
    served = [{"match": match, **with_filters(forward, {TRANSCODER: on()})}]
    if method.cache and binding.verb == "GET" and door.caching:
        served = cache.outer(match, forward)
    elif method.cache and binding.verb == "GET" and door.stamping:
        served = [{"match": match, **cache.inner(with_filters(forward, {TRANSCODER: on()}))}]
    if method.server_streaming:
        events = {**match, "headers": [*match["headers"], contains("accept", EVENTS)]}
        return [{"match": events, **with_filters(forward, {STREAMER: on()})}, *served]
    if binding.verb == "GET" and door.public:
        head = {**path, "headers": [equals(":method", "HEAD")]}
        served.append({**with_filters(served[0], lua(HEAD, "head")), "match": head})
    if binding.body and not method.raw_request:
        media = [present("content-type"), unlike("content-type", JSON_MEDIA)]
        line = "The body must be application/json."
        served.insert(0, {"match": {**match, "headers": match["headers"] + media}, **refuse(415, line)})
    return served


def _other_verbs(binding: Binding, verbs: set[str]) -> list[Json]:
    allowed = ", ".join(sorted(verbs | ({"HEAD"} if "GET" in verbs else set())))
    return [{"match": _path(binding), **refuse(405, f"This path takes {allowed}.", ("allow", allowed))}]


def _preflight() -> Json:
    """Envoy answers a preflight on routes to a cluster only. One that it does not allow ends in a 405."""
    asks = [equals(":method", "OPTIONS"), present("origin"), present("access-control-request-method")]
    return {"match": {"prefix": "/", "headers": asks}, "route": {"cluster": INNER}}


def _unknown(known_versions: list[int]) -> list[Json]:
    """What no route of a method takes."""
    listed = versions.available(known_versions)
    line = (
        f"Unknown API version; available: {listed}. It is named in the path (/v{known_versions[-1]}/...), "
        f"or by the header {versions.HEADER}, the media type {versions.MEDIA}vN+json, "
        f"or ?{versions.PARAMETER}=N."
    )
    numbered = {"safe_regex": {"regex": r"/v\d+/.*"}}
    return [
        *versions.refusals(known_versions, line),
        {"match": {**numbered, "headers": [_other_version(known_versions)]}, **refuse(400, line)},
        {"match": numbered, **_nowhere()},
        *(_versioned(match, events) for events in (True, False) for match in versions.named()),
        {"match": {"prefix": "/"}, **_nowhere()},
    ]


def _other_version(known_versions: list[int]) -> Json:
    either = "|".join(map(str, known_versions))
    return unlike(":path", rf"/v({either})/.*")


def _versioned(match: Json, events: bool) -> Json:
    """Gives the path the version that is named elsewhere; then the routes are asked anew.

    Which filters run is decided here, before that: so all that the next route may need are on.
    """
    filters = {
        limits.NAME: on(),
        BUFFER: on(),
        STREAMER if events else TRANSCODER: on(),
        **lua(VERSION, "version"),
    }
    if events:
        match = {**match, "headers": [*match.get("headers", []), contains("accept", EVENTS)]}
    return {"match": match, "typed_per_filter_config": filters, **_nowhere()}


def _nowhere() -> Json:
    return refuse(404, "Nothing is served at this path.")


def _path(binding: Binding) -> Json:
    if binding.template.literal:
        return {"path": binding.template.bare}
    return {"safe_regex": {"regex": binding.template.regex}}


def _action(routes: list[Json]) -> Json:
    routes_list = extension("routes", "envoy.config.route.v3.RouteList", routes=routes)
    return {"action": routes_list}
