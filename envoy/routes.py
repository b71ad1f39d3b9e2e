"""Routes of every door, from the methods' options.

Each method is a gRPC route and one route for each REST binding, with its limits, its rule about tokens and
its time. A tree of literal prefixes comes first, so that a call compares with few expressions.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta

from . import cache, limits, versions
from .cache import TRANSCODER
from .methods import REQUEST_BYTES_MAX, Binding, Method
from .refusals import refuse
from .wire import (
    HTTP_FILTERS,
    Json,
    begins,
    contains,
    equals,
    extension,
    header,
    lua,
    off,
    on,
    present,
    seconds,
    typed,
    unlike,
    with_filters,
)

JWT = "envoy.filters.http.jwt_authn"
BUFFER = "envoy.filters.http.buffer"
STREAMER = "weft.transcoder.events"  # The transcoder that writes server-sent events.
DOORS = "weft.lua.doors"
GRPC = "application/grpc"
EVENTS = "text/event-stream"
JSON_MEDIA = r"(?i)application/(json|vnd\.weft\.v\d+\+json)\s*(;.*)?"
RETRIES = 2  # Further tries of an idempotent call; the cluster's budget bounds them altogether.
RETRY_ON = "connect-failure,refused-stream,reset-before-request,unavailable"
BACKOFF = {
    "base_interval": "0.025s",
    "max_interval": "0.25s",
}  # A restarted process is back in well under 1 s.
STREAM_IDLE = timedelta(minutes=5)  # Streams send a heartbeat far more often; silence so long is a dead peer.


@dataclass(frozen=True)
class Door:
    """What a listener asks of its routes."""

    public: bool = True  # The edge: tokens, limits, no internal methods. Else the mesh's own side.
    rest: bool = True
    retries: bool = True  # The mesh's own channel retries by itself: two layers would multiply.
    caching: bool = False  # Cacheable reads go through the cache to the inner listener.
    stamping: bool = False  # The inner listener: answers of cacheable reads are stamped.


@dataclass
class Tree:
    """Routes by the literal beginning of their path, the more specific first."""

    branches: dict[str, list[Json]] = field(default_factory=dict)
    trunk: list[Json] = field(default_factory=list)  # tried where no branch has a route

    def virtual_host(self, name: str) -> Json:
        """The host that serves all names."""
        prefixes = {prefix: _action(self._reachable(prefix)) for prefix in self.branches}
        matcher: Json = {"on_no_match": _action(self.trunk)}
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
        if prefix.endswith("/"):  # a proto service, which refuses by itself what it does not have
            return self.branches[prefix]
        shorter = sorted((each for each in self.branches if prefix.startswith(each)), key=len, reverse=True)
        return [route for each in shorter for route in self.branches[each]] + self.trunk


def tree(methods: Iterable[Method], known_versions: list[int], door: Door) -> Tree:
    """All routes of a door."""
    grown = Tree(trunk=_unknown(known_versions) if door.rest else [_nothing()])
    served = [method for method in methods if not (door.public and method.access == "internal")]
    for method in served:
        grown.branches.setdefault(f"/{method.interface}/", []).append(_grpc(method, door))
    for interface in {method.interface for method in served}:
        grown.branches[f"/{interface}/"] += _not_grpc(f"/{interface}/")
    if door.rest:
        _rest(grown, served, door)
    return grown


def _rest(grown: Tree, methods: list[Method], door: Door) -> None:
    doors = [(binding, method) for method in methods for binding in method.bindings]
    doors.sort(key=lambda each: each[0].template.rank)
    prefixes = {binding.template.prefix: method.version for binding, method in doors}
    for prefix, version in prefixes.items():
        line = f"The path says v{version}; the header, media type or query names another API version."
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
    route = _forward(method, method.path, door)
    if method.timeout:
        bound = seconds(method.timeout)
        route["route"]["max_stream_duration"] = {
            "max_stream_duration": bound,
            "grpc_timeout_header_max": bound,
        }
    else:
        route["route"]["max_stream_duration"] = {"max_stream_duration": "0s", "grpc_timeout_header_max": "0s"}
    return {"match": match, **route}


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
    path = {"path": binding.template.bare} if binding.template.literal else _regex(binding)
    match: Json = {**path, "headers": [equals(":method", binding.verb)]}
    route = _forward(method, binding.template.bare, door)
    routes = []
    if binding.verb == "GET" and not method.server_streaming:
        head = {**path, "headers": [equals(":method", "HEAD")]}
        routes.append(
            {
                "match": head,
                "typed_per_filter_config": lua(DOORS, "head"),
                **refuse(404, "Nothing is served at this path."),
            }
        )
    if binding.body and not method.raw_request:
        media = [present("content-type"), unlike("content-type", JSON_MEDIA)]
        line = "The body must be application/json."
        routes.append({"match": {**match, "headers": match["headers"] + media}, **refuse(415, line)})
    if method.server_streaming:
        accept = {**match, "headers": [*match["headers"], contains("accept", EVENTS)]}
        routes.append({"match": accept, **with_filters(route, {TRANSCODER: off(), STREAMER: on()})})
    if method.cache and binding.verb == "GET" and door.caching:
        return routes + cache.outer(match, route)
    if method.cache and binding.verb == "GET" and door.stamping:
        return [*routes, {"match": match, **cache.inner(route)}]
    return [*routes, {"match": match, **route}]


def _other_verbs(binding: Binding, verbs: set[str]) -> list[Json]:
    path = {"path": binding.template.bare} if binding.template.literal else _regex(binding)
    allowed = sorted(verbs | ({"HEAD"} if "GET" in verbs else set()))
    line = f"This path takes {', '.join(allowed)}."
    return [{"match": path, **refuse(405, line, ("allow", ", ".join(allowed)))}]


def _unknown(known_versions: list[int]) -> list[Json]:
    """What no route of a method takes."""
    listed = versions.available(known_versions)
    line = (
        f"Unknown API version; available: {listed}. It is named in the path (/v{known_versions[-1]}/...), "
        f"or by the header {versions.HEADER}, the media type {versions.MEDIA}vN+json, or ?{versions.PARAMETER}=N."
    )
    either = "|".join(map(str, known_versions))
    strange = {"prefix": "/v", "headers": [unlike(":path", rf"/v({either})/.*")]}
    numbered = {"safe_regex": {"regex": r"/v\d+/.*"}, "headers": strange["headers"]}
    return [
        *versions.refusals(known_versions, line),
        {"match": numbered, **refuse(400, line)},
        *(
            {"match": match, "typed_per_filter_config": lua(DOORS, "version"), **_nothing_action()}
            for match in versions.named()
        ),
        _nothing(),
    ]


def _nothing() -> Json:
    return {"match": {"prefix": "/"}, **_nothing_action()}


def _nothing_action() -> Json:
    return refuse(404, "Nothing is served at this path.")


def _forward(method: Method, template: str, door: Door) -> Json:
    """The way to the service."""
    action: Json = {
        "cluster": method.service,
        "timeout": seconds(method.timeout),
        "idle_timeout": seconds(STREAM_IDLE),
    }
    notes = {"template": template, "retry_after": limits.retry_after(method), "max_age": _age(method)}
    route: Json = {
        "name": method.full_name,
        "route": action,
        "metadata": {"filter_metadata": {"weft": notes}},
        "response_headers_to_add": [header(name, value) for name, value in method.headers],
    }
    if door.retries and method.idempotent:
        action["retry_policy"] = _retry_policy()
    if door.public:
        action["rate_limits"] = limits.actions(method)
        route["request_headers_to_remove"] = ["x-api-key"]
        route["typed_per_filter_config"] = _per_filter(method)
    return route


def _retry_policy() -> Json:
    previous = extension(
        "envoy.retry_host_predicates.previous_hosts",
        "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
    )
    return {
        "retry_on": RETRY_ON,
        "num_retries": RETRIES,
        "retry_back_off": BACKOFF,
        "retry_host_predicate": [previous],
        "host_selection_retry_max_attempts": 3,  # Envoy's own advice; bounds the search for another host.
    }


def _per_filter(method: Method) -> Json:
    requirement = "allowed" if method.access == "public" else "required"
    config = {
        JWT: typed(HTTP_FILTERS + "jwt_authn.v3.PerRouteConfig", requirement_name=requirement),
    }
    if method.client_streaming:
        config[BUFFER] = typed(HTTP_FILTERS + "buffer.v3.BufferPerRoute", disabled=True)
    elif method.request_bytes_max != REQUEST_BYTES_MAX:
        config[BUFFER] = typed(
            HTTP_FILTERS + "buffer.v3.BufferPerRoute",
            buffer={"max_request_bytes": method.request_bytes_max},
        )
    return config


def _age(method: Method) -> str:
    return f"{method.cache.total_seconds():.0f}"


def _regex(binding: Binding) -> Json:
    return {"safe_regex": {"regex": binding.template.regex}}


def _action(routes: list[Json]) -> Json:
    routes_list = extension("routes", "envoy.config.route.v3.RouteList", routes=routes)
    return {"action": routes_list}
