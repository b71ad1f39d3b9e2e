"""What the edge itself answers when it refuses: google.rpc.Status, as JSON for REST, as trailers for gRPC.

A reply of Envoy's own (no route, bad token, dead upstream, ...) has an HTTP status and a line of text.
The line becomes the status message unless a fixed one is given here; the HTTP status decides the rest.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import timedelta

from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2

from .wire import Json, absent, begins, extension, header, present

DOMAIN = "edge.weft"
RETRY_DELAY = timedelta(seconds=1)  # Health checks and pools notice a restarted service within about that.
LINE = "%LOCAL_REPLY_BODY%"


@dataclass(frozen=True)
class Refusal:
    """One kind of refusal."""

    http: int
    code: int
    reason: str
    message: str = LINE
    retry: bool = False
    grpc_code: int | None = None  # where gRPC callers expect another code than REST readers
    condition: Json | None = None  # besides the HTTP status
    becomes: int | None = None  # HTTP status to answer with instead
    told: bool = False  # `retry-after` is in the reply already


def _because(detail: str) -> Json:
    """Holds of replies whose cause, in Envoy's own word for it, contains the text."""
    return {
        "extension_filter": extension(
            "envoy.access_loggers.extension_filters.cel",
            "envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter",
            expression=f"response.code_details.contains('{detail}')",
        )
    }


REFUSALS = (
    Refusal(
        401,
        code_pb2.UNAVAILABLE,
        "KEYS_UNAVAILABLE",
        "Tokens cannot be verified now.",
        retry=True,
        condition=_because("Jwks"),
        becomes=503,
    ),
    Refusal(
        408,
        code_pb2.DEADLINE_EXCEEDED,
        "TIME_LIMIT",
        "The call took longer than its time limit.",
        condition={"response_flag_filter": {"flags": ["DT"]}},
        becomes=504,
    ),
    Refusal(  # a token for another audience, which Envoy takes for a matter of permission
        403, code_pb2.UNAUTHENTICATED, "BAD_CREDENTIALS", condition=_because("jwt_authn"), becomes=401
    ),
    Refusal(
        401,
        code_pb2.UNAUTHENTICATED,
        "SIGN_IN_REQUIRED",
        "This call needs an access token or an API key.",
        condition=_because("Jwt_is_missing"),
    ),
    Refusal(400, code_pb2.INVALID_ARGUMENT, "BAD_REQUEST"),
    Refusal(401, code_pb2.UNAUTHENTICATED, "BAD_CREDENTIALS"),
    Refusal(403, code_pb2.PERMISSION_DENIED, "REFUSED"),
    Refusal(404, code_pb2.NOT_FOUND, "UNKNOWN_ROUTE", grpc_code=code_pb2.UNIMPLEMENTED),
    Refusal(405, code_pb2.UNIMPLEMENTED, "UNKNOWN_VERB"),
    Refusal(408, code_pb2.DEADLINE_EXCEEDED, "SLOW_REQUEST", "The request did not arrive in time."),
    Refusal(
        413, code_pb2.RESOURCE_EXHAUSTED, "OVERSIZE_REQUEST", "The request is larger than this method takes."
    ),
    Refusal(415, code_pb2.INVALID_ARGUMENT, "UNKNOWN_MEDIA_TYPE", grpc_code=code_pb2.INTERNAL),
    Refusal(429, code_pb2.RESOURCE_EXHAUSTED, "TOO_MANY_CALLS", "Too many calls; slow down."),
    Refusal(431, code_pb2.RESOURCE_EXHAUSTED, "OVERSIZE_HEADERS", "The request's headers are too large."),
    Refusal(500, code_pb2.INTERNAL, "EDGE_FAILED", "The edge could not handle the call."),
    Refusal(501, code_pb2.UNIMPLEMENTED, "UNIMPLEMENTED"),
    Refusal(
        502,
        code_pb2.UNAVAILABLE,
        "BAD_ANSWER",
        "The service's answer could not be used.",
        retry=True,
    ),
    Refusal(503, code_pb2.UNAVAILABLE, "SERVICE_DOWN", "The service is not available now.", retry=True),
    Refusal(504, code_pb2.DEADLINE_EXCEEDED, "TIME_LIMIT", "The call took longer than its time limit."),
)


# Of global limits, before all others.
ASKED = (
    Refusal(
        429,
        code_pb2.RESOURCE_EXHAUSTED,
        "TOO_MANY_CALLS",
        "Too many calls; slow down.",
        condition=_because("request_rate_limited"),
        told=True,
    ),
    Refusal(
        503,
        code_pb2.UNAVAILABLE,
        "LIMITS_UNKNOWN",
        "Whether the call may pass cannot be told now.",
        retry=True,
        condition=_because("rate_limiter_error"),
    ),
)


def local_reply_config(*, asking: bool) -> Json:
    """HttpConnectionManager.local_reply_config"""
    refusals = (*ASKED, *REFUSALS) if asking else REFUSALS
    mappers = [
        mapper(refusal) for refusal in refusals for mapper in (_web_mapper, _grpc_mapper, _json_mapper)
    ]
    return {"mappers": mappers}


def _web_mapper(refusal: Refusal) -> Json:
    """gRPC-Web: Envoy does not take it for gRPC, so all that makes a refusal a status is set here."""
    return {
        "filter": _all(_status(refusal), *_grpc_caller(), *_web_caller()),
        "status_code": 200,
        "body_format_override": {
            "text_format_source": {"inline_string": ""},
            "content_type": "application/grpc-web+proto",
        },
        "headers_to_add": [*_status_headers(refusal), header("grpc-message", refusal.message)],
    }


def _grpc_mapper(refusal: Refusal) -> Json:
    headers = _status_headers(refusal)
    return {
        "filter": _all(_status(refusal), *_grpc_caller()),
        "body_format_override": {"text_format_source": {"inline_string": refusal.message}},
        "headers_to_add": headers,
    }


def _json_mapper(refusal: Refusal) -> Json:
    info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": refusal.reason, "domain": DOMAIN}
    details = [info]
    if refusal.retry:
        delay = f"{RETRY_DELAY.total_seconds():g}s"
        details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay})
    body = {"code": refusal.code, "message": refusal.message, "details": details}
    mapper: Json = {
        "filter": _status(refusal),
        "body_format_override": {"json_format": body},
        "headers_to_add": _extra(refusal),
    }
    if refusal.becomes is not None:
        mapper["status_code"] = refusal.becomes
    return mapper


def _status_headers(refusal: Refusal) -> list[Json]:
    code = refusal.code if refusal.grpc_code is None else refusal.grpc_code
    details = header("grpc-status-details-bin", _details(refusal, code))
    return [header("grpc-status", str(code)), details, *_extra(refusal)]


def _extra(refusal: Refusal) -> list[Json]:
    if refusal.retry:
        return [header("retry-after", f"{RETRY_DELAY.total_seconds():.0f}")]
    if refusal.http == 429 and not refusal.told:
        return [header("retry-after", "%METADATA(ROUTE:weft:retry_after)%")]
    return []


def _status(refusal: Refusal) -> Json:
    comparison = {"op": "EQ", "value": {"default_value": refusal.http, "runtime_key": "edge.unused"}}
    filters: list[Json] = [{"status_code_filter": {"comparison": comparison}}]
    return _all(*filters, *([refusal.condition] if refusal.condition else []))


def _grpc_caller() -> list[Json]:
    """The caller itself speaks gRPC: the transcoder, which rewrites to gRPC, leaves the original path."""
    matchers = (begins("content-type", "application/grpc"), absent("x-envoy-original-path"))
    return [{"header_filter": {"header": matcher}} for matcher in matchers]


def _web_caller() -> list[Json]:
    asks = [{"header_filter": {"header": present("x-grpc-web")}}]
    asks.append({"header_filter": {"header": begins("accept", "application/grpc-web")}})
    return [{"or_filter": {"filters": asks}}]


def _all(*filters: Json) -> Json:
    if len(filters) == 1:
        return filters[0]
    return {"and_filter": {"filters": list(filters)}}


def _details(refusal: Refusal, code: int) -> str:
    """grpc-status-details-bin, whose message repeats grpc-message where that is fixed."""
    status = status_pb2.Status(code=code, message="" if refusal.message == LINE else refusal.message)
    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.ErrorInfo(reason=refusal.reason, domain=DOMAIN))
    status.details.append(detail)
    if refusal.retry:
        retry = any_pb2.Any()
        retry.Pack(error_details_pb2.RetryInfo(retry_delay=RETRY_DELAY))
        status.details.append(retry)
    return base64.b64encode(status.SerializeToString(deterministic=True)).decode().rstrip("=")


def refuse(http: int, line: str, *headers: tuple[str, str]) -> Json:
    """The action of a route that answers with a refusal."""
    route: Json = {"direct_response": {"status": http, "body": {"inline_string": line}}}
    if headers:
        route["response_headers_to_add"] = [header(name, value) for name, value in headers]
    return route
