"""Listeners: the edge with TLS, the plain development door, the mesh, the inner one, the statistics."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from . import cache, clusters, filters, pages
from .forwarding import Door
from .global_limits import Asking
from .limits import SUBJECT
from .methods import Contract
from .refusals import local_reply_config, refuse
from .routes import tree
from .settings import Settings
from .wire import HTTP_FILTERS, Json, extension, header, seconds, typed

HCM = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
STREAMS_MAX = 1000  # Concurrent calls on one connection; a browser needs 100, a partner's pool a few more.
CONNECTION_BUFFER = 1 << 20  # Bytes held for one connection in either direction.
CONNECTION_IDLE = timedelta(minutes=5)
REQUEST_ARRIVAL = timedelta(seconds=10)  # Headers of a request, once begun: against slow senders.
HEADERS_MAX_KB = 32  # A token is 1-2 kB; nothing we take comes near.
HEADERS_MAX_COUNT = 100  # Envoy's default, named.
ASSET_BYTES_MAX = 8 << 20  # The largest page or script that the edge serves by itself.
STREAM_IDLE_DEFAULT = timedelta(minutes=5)
KEEPALIVE = {"interval": "30s", "timeout": "10s"}  # Finds vanished clients that hold streams.
INTERNAL_HEADERS = ("x-weft-", "x-envoy-")  # Only the edge and the services behind it set these.
CORS_REQUEST = (
    "authorization,content-type,accept,x-api-key,x-api-version,x-grpc-web,x-user-agent,grpc-timeout,"
    "if-none-match,if-match,idempotency-key,traceparent,tracestate"
)
CORS_RESPONSE = (
    "grpc-status,grpc-message,grpc-status-details-bin,etag,retry-after,x-ratelimit-limit,"
    "x-ratelimit-remaining,x-ratelimit-reset,deprecation,sunset,x-request-id"
)
CORS_AGE = "86400"  # seconds a browser remembers a preflight; browsers cap it themselves
LOCALHOST = r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?"
SECURITY = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
}
HSTS = "max-age=31536000"
# For what services answer, which may be a plain page of HTML (an unsubscription) with styles of its own.
ANSWER_CSP = (
    "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)


def all_(contract: Contract, settings: Settings, out: Path) -> list[Json]:
    """Every listener of the bootstrap."""
    descriptor = out / "weft.binpb"
    listeners = [_mesh(contract, settings), _inner(contract, settings, descriptor), _stats(settings)]
    for name in ("https", "http"):
        port = settings.port(name)
        if port is not None:
            listeners.append(_edge(name, port, contract, settings, out))
    return listeners


def _edge(name: str, port: int, contract: Contract, settings: Settings, out: Path) -> Json:
    asking = Asking.of(settings)
    grown = tree(contract.methods, contract.versions, Door(caching=True, asking=asking))
    pages.plant(grown, settings, out)
    host = grown.virtual_host("edge")
    secure = {**SECURITY, **({"strict-transport-security": HSTS} if name == "https" else {})}
    host["response_headers_to_add"] = [
        header(key, value, "ADD_IF_ABSENT")
        for key, value in {**secure, "content-security-policy": ANSWER_CSP}.items()
    ]
    host["typed_per_filter_config"] = {"envoy.filters.http.cors": _cors(settings)}
    manager = _manager(name, host, settings, out)
    manager["http_filters"] = filters.edge(contract, settings, out / "weft.binpb")
    manager |= {
        "use_remote_address": True,
        "xff_num_trusted_hops": settings.trusted_hops,
        "early_header_mutation_extensions": [_stripped()],
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        "request_headers_timeout": seconds(REQUEST_ARRIVAL),
        "max_request_headers_kb": HEADERS_MAX_KB,
    }
    chain = _chain(manager)
    if name == "https":
        chain["transport_socket"] = _tls(settings, out)
    return {**_listener(name, settings.host, port), "filter_chains": [chain]}


def _mesh(contract: Contract, settings: Settings) -> Json:
    grown = tree(contract.methods, contract.versions, Door(public=False, rest=False, retries=False))
    manager = _manager("mesh", grown.virtual_host("mesh"), settings, None)
    manager["http_filters"] = filters.mesh()
    manager["codec_type"] = "HTTP2"
    port = settings.port("mesh")
    return {**_listener("mesh", settings.host, port), "filter_chains": [_chain(manager)]}


def _inner(contract: Contract, settings: Settings, descriptor: Path) -> Json:
    grown = tree(contract.methods, contract.versions, Door(public=False, stamping=True))
    manager = _manager(cache.INNER, grown.virtual_host(cache.INNER), settings, None)
    manager["http_filters"] = filters.inner(contract, descriptor)
    return {"name": cache.INNER, "internal_listener": {}, "filter_chains": [_chain(manager)]}


def _stats(settings: Settings) -> Json:
    """Prometheus' door, the health of each service, and the token keys for the edge itself."""
    metrics = {
        "match": {"path": "/metrics"},
        "route": {"cluster": clusters.ADMIN, "prefix_rewrite": "/stats/prometheus"},
    }
    keys = {"match": {"path": filters.JWKS_PATH}, "route": {"cluster": cache.INNER}}
    nothing = {"match": {"prefix": "/"}, **refuse(404, "Nothing is served at this path.")}
    host = {"name": "stats", "domains": ["*"], "routes": [metrics, keys, nothing]}
    manager = _manager("stats", host, settings, None)
    names = sorted(settings.services)
    checks = [_health("/healthz", names), *(_health(f"/healthz/{name}", [name]) for name in names)]
    manager["http_filters"] = [*checks, *filters.plain()]
    port = settings.port("stats")
    return {**_listener("stats", settings.host, port), "filter_chains": [_chain(manager)]}


def _health(path: str, names: list[str]) -> Json:
    """200 while each of the services has a healthy endpoint."""
    return extension(
        f"weft.health{path}",
        HTTP_FILTERS + "health_check.v3.HealthCheck",
        pass_through_mode=False,
        headers=[{"name": ":path", "string_match": {"exact": path}}],
        # Any healthy share will do: one percent of any number of endpoints is at least one.
        cluster_min_healthy_percentages={name: {"value": 1} for name in names},
    )


def _manager(name: str, host: Json, settings: Settings, out: Path | None) -> Json:
    """What all HTTP connection managers share."""
    manager = typed(
        HCM,
        stat_prefix=name,
        codec_type="AUTO",
        route_config={
            "name": name,
            "virtual_hosts": [host],
            "max_direct_response_body_size_bytes": ASSET_BYTES_MAX,
            # Clusters that are told of come after the routes to them; until then a call is a 503.
            **({"validate_clusters": False} if settings.discovery else {}),
        },
        local_reply_config=local_reply_config(asking=settings.global_limits is not None),
        stream_idle_timeout=seconds(STREAM_IDLE_DEFAULT),
        common_http_protocol_options={
            "idle_timeout": seconds(CONNECTION_IDLE),
            "headers_with_underscores_action": "REJECT_REQUEST",
            "max_headers_count": HEADERS_MAX_COUNT,
        },
        http2_protocol_options={
            "max_concurrent_streams": STREAMS_MAX,
            "connection_keepalive": KEEPALIVE,
        },
        server_name="weft",
    )
    if out is not None:
        manager["access_log"] = [_access_log(settings, out)]
        if settings.otlp:
            manager["tracing"] = _tracing(settings)
    return manager


def _access_log(settings: Settings, out: Path) -> Json:
    """One JSON line a call. Paths appear as templates only: ids and tokens in them are not the log's."""
    return extension(
        "envoy.access_loggers.file",
        "envoy.extensions.access_loggers.file.v3.FileAccessLog",
        path=settings.access_log or str(out / "access.jsonl"),
        log_format={
            "json_format": {
                "at": "%START_TIME%",
                "verb": "%REQ(X-ENVOY-ORIGINAL-METHOD?:METHOD)%",
                "method": "%ROUTE_NAME%",
                "route": "%METADATA(ROUTE:weft:template)%",
                "protocol": "%PROTOCOL%",
                "status": "%RESPONSE_CODE%",
                "grpc_status": "%GRPC_STATUS(SNAKE_STRING)%",
                "why": "%RESPONSE_CODE_DETAILS%",
                "flags": "%RESPONSE_FLAGS%",
                "ms": "%DURATION%",
                "service_ms": "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
                "bytes_in": "%BYTES_RECEIVED%",
                "bytes_out": "%BYTES_SENT%",
                "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
                "endpoint": "%UPSTREAM_HOST%",
                "peer": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
                "subject": f"%REQ({SUBJECT})%",
                "request_id": "%REQ(X-REQUEST-ID)%",
                "trace": "%TRACE_ID%",
                "tls": "%DOWNSTREAM_TLS_VERSION%",
            }
        },
    )


def _tracing(settings: Settings) -> Json:
    provider = extension(
        "envoy.tracers.opentelemetry",
        "envoy.config.trace.v3.OpenTelemetryConfig",
        grpc_service={"envoy_grpc": {"cluster_name": clusters.COLLECTOR}, "timeout": "1s"},
        service_name="weft-edge",
        sampler=_sampler(settings.trace_percent),
    )
    return {"provider": provider, "random_sampling": {"value": 100}, "spawn_upstream_span": True}


def _sampler(percent: float) -> Json:
    """A caller that samples decides; of the others' calls a share starts a trace."""
    name, package = (
        "envoy.tracers.opentelemetry.samplers",
        "envoy.extensions.tracers.opentelemetry.samplers.v3",
    )
    share = {"numerator": round(percent * 10_000), "denominator": "MILLION"}
    ratio = extension(
        f"{name}.trace_id_ratio_based",
        f"{package}.TraceIdRatioBasedSamplerConfig",
        sampling_percentage=share,
    )
    return extension(f"{name}.parent_based", f"{package}.ParentBasedSamplerConfig", wrapped_sampler=ratio)


def _cors(settings: Settings) -> Json:
    origins: list[Json] = [{"exact": origin} for origin in settings.origins]
    if settings.development:
        origins.append({"safe_regex": {"regex": LOCALHOST}})
    return typed(
        HTTP_FILTERS + "cors.v3.CorsPolicy",
        allow_origin_string_match=origins,
        allow_methods="GET, HEAD, POST, PUT, PATCH, DELETE",
        allow_headers=CORS_REQUEST,
        expose_headers=CORS_RESPONSE,
        max_age=CORS_AGE,
    )


def _stripped() -> Json:
    """Takes away what only the inside may say, before any route is looked for."""
    mutations = [{"remove_on_match": {"key_matcher": {"prefix": each}}} for each in INTERNAL_HEADERS]
    return extension(
        "weft.stripped",
        "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
        mutations=mutations,
    )


def _tls(settings: Settings, out: Path) -> Json:
    source = {
        "path_config_source": {
            "path": str(out / "sds.json"),
            "watched_directory": {"path": str(out)},
        },
        "resource_api_version": "V3",
    }
    context = {
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
        "alpn_protocols": ["h2", "http/1.1"],
        "tls_certificate_sds_secret_configs": [{"name": "edge", "sds_config": source}],
    }
    return extension(
        "envoy.transport_sockets.tls",
        "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        common_tls_context=context,
    )


def _listener(name: str, host: str, port: int | None) -> Json:
    return {
        "name": name,
        "address": {"socket_address": {"address": host, "port_value": port}},
        "per_connection_buffer_limit_bytes": CONNECTION_BUFFER,
    }


def _chain(manager: Json) -> Json:
    return {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
