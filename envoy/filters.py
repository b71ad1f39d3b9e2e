"""The HTTP filters of each listener, in the order that a request meets them."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from . import cache, clusters, global_limits, limits, statuses
from .forwarding import BUFFER, JWT
from .methods import REQUEST_BYTES_MAX, Contract
from .routes import HEAD, STREAMER, VERSION
from .settings import Settings
from .versions import PARAMETER
from .wire import HTTP_FILTERS, Json, extension, idle, seconds, typed

IDENTITY = "identity"  # the service that issues tokens and exchanges API keys
JWKS_PATH = "/.well-known/jwks.json"
JWKS_AGE = timedelta(seconds=30)  # A new key is published longer than this before it signs.
JWT_CACHE = 1000  # Verified tokens a worker remembers: 14 us instead of 116 us a call.
SEGMENT_HEADER = "x-weft-segment-"  # Stripped with all of `x-weft-` from what comes from outside.
TOKEN_BYTES_MAX = 8192  # A larger token is verified but not remembered.
AUTHORIZATION_TIMEOUT = timedelta(seconds=1)  # An API key's exchange is one indexed read.
RESPONSE_BYTES_MAX = 16 << 20  # One unary answer as JSON; larger results are streams or pages.
COMPRESS_FROM = 256  # bytes; smaller answers do not gain
COMPRESSED = (
    "application/json",
    "application/javascript",
    "text/css",
    "text/html",
    "text/javascript",
    "image/svg+xml",
)


def edge(contract: Contract, settings: Settings, descriptor: Path) -> list[Json]:
    """Filters of the doors that the world uses."""
    asking = global_limits.Asking.of(settings)
    return [
        extension("envoy.filters.http.cors", HTTP_FILTERS + "cors.v3.Cors"),
        extension("envoy.filters.http.grpc_web", HTTP_FILTERS + "grpc_web.v3.GrpcWeb"),
        cache.lua_filter(VERSION, "version"),
        cache.lua_filter(HEAD, "head"),
        *_compressors(),
        limits.exchanges(),
        _api_keys(),
        _tokens(settings, global_limits.claims(asking)),
        limits.filter_(contract.methods, settings.rate_factor),
        *global_limits.filters(asking),
        idle(extension(BUFFER, HTTP_FILTERS + "buffer.v3.Buffer", max_request_bytes=REQUEST_BYTES_MAX)),
        _statistics(),
        cache.lua_filter(cache.VALIDATE, "validate"),
        cache.cache_filter(),
        statuses.filter_(),
        _transcoder(contract, descriptor, events=False),
        _transcoder(contract, descriptor, events=True),
        _router(),
    ]


def mesh() -> list[Json]:
    """Filters between services."""
    return [_statistics(), _router()]


def inner(contract: Contract, descriptor: Path) -> list[Json]:
    """Filters behind the cache."""
    return [
        cache.lua_filter(cache.STAMP, "stamp"),
        _transcoder(contract, descriptor, events=False),
        _router(),
    ]


def plain() -> list[Json]:
    """Filters of a listener that only forwards."""
    return [_router()]


def _router() -> Json:
    return extension("envoy.filters.http.router", HTTP_FILTERS + "router.v3.Router")


def _statistics() -> Json:
    return extension(
        "envoy.filters.http.grpc_stats",
        HTTP_FILTERS + "grpc_stats.v3.FilterConfig",
        stats_for_all_methods=True,
        enable_upstream_stats=True,
        emit_filter_state=True,
    )


def _compressors() -> list[Json]:
    common = {
        "min_content_length": COMPRESS_FROM,
        "content_type_matcher": [{"exact": media} for media in COMPRESSED],
    }
    libraries = {
        "gzip": typed("envoy.extensions.compression.gzip.compressor.v3.Gzip"),
        "brotli": typed("envoy.extensions.compression.brotli.compressor.v3.Brotli", quality=4),
    }
    return [
        extension(
            f"weft.compressor.{name}",
            HTTP_FILTERS + "compressor.v3.Compressor",
            response_direction_config={"common_config": common},
            compressor_library={"name": name, "typed_config": library},
            choose_first=name == "brotli",
        )
        for name, library in libraries.items()
    ]


def _transcoder(contract: Contract, descriptor: Path, *, events: bool) -> Json:
    """JSON to gRPC and back; a stream is NDJSON, or server-sent events where the route asks for them."""
    config = extension(
        STREAMER if events else cache.TRANSCODER,
        HTTP_FILTERS + "grpc_json_transcoder.v3.GrpcJsonTranscoder",
        proto_descriptor=str(descriptor),
        services=contract.interfaces,
        convert_grpc_status=True,
        match_incoming_request_route=True,
        case_insensitive_enum_parsing=True,
        ignored_query_parameters=[PARAMETER],
        query_param_unescape_plus=True,
        max_response_body_size=RESPONSE_BYTES_MAX,
        print_options={"stream_newline_delimited": True, "stream_sse_style_delimited": events},
        request_validation_options={"reject_unknown_method": True, "reject_unknown_query_parameters": True},
    )
    return idle(config)


def _tokens(settings: Settings, claims: list[Json]) -> Json:
    """Verifies access tokens; a route says whether it demands one."""
    provider = {
        "issuer": settings.token_issuer,
        "audiences": [settings.audience],
        "require_expiration": True,
        "forward": True,
        "from_headers": [{"name": "authorization", "value_prefix": "Bearer "}],
        "claim_to_headers": [
            {"header_name": limits.SUBJECT, "claim_name": "sub"},
            *segments(settings),
            *claims,
        ],
        "jwt_cache_config": {"jwt_cache_size": JWT_CACHE, "jwt_max_token_size": TOKEN_BYTES_MAX},
        "remote_jwks": {
            "http_uri": {"uri": f"http://{IDENTITY}{JWKS_PATH}", "cluster": clusters.SELF, "timeout": "1s"},
            "cache_duration": seconds(JWKS_AGE),
            "async_fetch": {"fast_listener": True, "failed_refetch_duration": "0.25s"},
        },
    }
    either = [{"provider_name": "weft"}, {"allow_missing": {}}]
    return extension(
        JWT,
        HTTP_FILTERS + "jwt_authn.v3.JwtAuthentication",
        providers={"weft": provider},
        requirement_map={
            "required": {"provider_name": "weft"},
            "allowed": {"requires_any": {"requirements": either}},
        },
    )


def segments(settings: Settings) -> list[Json]:
    """Claims that traffic policies deal calls by."""
    return [
        {"header_name": SEGMENT_HEADER + claim.replace("_", "-"), "claim_name": claim}
        for claim in settings.segments
    ]


def _api_keys() -> Json:
    """Exchanges the API key of a request for a token at identity; requests without one pass by."""
    name = "envoy.filters.http.ext_authz"
    exchange = extension(
        name,
        HTTP_FILTERS + "ext_authz.v3.ExtAuthz",
        transport_api_version="V3",
        grpc_service={
            "envoy_grpc": {"cluster_name": IDENTITY},
            "timeout": seconds(AUTHORIZATION_TIMEOUT),
        },
        status_on_error={"code": "ServiceUnavailable"},
        allowed_headers={"patterns": [{"exact": "x-api-key", "ignore_case": True}]},
    )
    key = extension("key", "envoy.type.matcher.v3.HttpRequestHeaderMatchInput", header_name="x-api-key")
    given = {
        "single_predicate": {"input": key, "value_match": {"safe_regex": {"google_re2": {}, "regex": ".*"}}}
    }
    skip = extension("skip", "envoy.extensions.filters.common.matcher.action.v3.SkipFilter")
    unless_given = {"matchers": [{"predicate": {"not_matcher": given}, "on_match": {"action": skip}}]}
    return extension(
        name,
        "envoy.extensions.common.matching.v3.ExtensionWithMatcher",
        extension_config=exchange,
        xds_matcher={"matcher_list": unless_given},
    )
