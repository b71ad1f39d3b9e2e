"""Rows as messages of the wire, and as what deciders hold."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from services.chassis.masks import etag
from services.ratelimit.domain.limit import Limit, RateLimit, entry
from services.ratelimit.domain.row import QuotaCount, RateBucket
from weft.ratelimit.v1 import ratelimit_pb2 as pb


def columns(settings: pb.RateLimitSettings) -> dict[str, Any]:
    """A row's part of what a limit is set to."""
    failure = settings.failure or pb.FAILURE_RULE_OPEN
    return {
        "name": settings.name,
        "prefix": settings.match.prefix,
        "plans": sorted(settings.match.plans),
        "keys": sorted(settings.match.keys),
        "key_kind": pb.KeyKind.Name(settings.key).removeprefix("KEY_KIND_"),
        "header": settings.header,
        "unit": pb.Unit.Name(settings.unit).removeprefix("UNIT_"),
        "requests": settings.requests,
        "burst": settings.burst,
        "failure": pb.FailureRule.Name(failure).removeprefix("FAILURE_RULE_"),
        "shadow": settings.shadow,
        "priority": settings.priority,
        "start_at": _at(settings, "start_time"),
        "end_at": _at(settings, "end_time"),
    }


def _at(settings: pb.RateLimitSettings, field: str) -> datetime | None:
    if not settings.HasField(field):  # type: ignore[arg-type]
        return None
    at: datetime = getattr(settings, field).ToDatetime(tzinfo=UTC)
    return at


def rate_limit(row: RateLimit) -> pb.RateLimit:
    match = pb.Match(prefix=row.prefix, plans=row.plans, keys=row.keys)
    settings = pb.RateLimitSettings(
        name=row.name,
        match=match if match.ByteSize() else None,
        key=pb.KeyKind.Value(f"KEY_KIND_{row.key_kind}"),
        header=row.header,
        unit=pb.Unit.Value(f"UNIT_{row.unit}"),
        requests=row.requests,
        burst=row.burst,
        failure=pb.FailureRule.Value(f"FAILURE_RULE_{row.failure}"),
        shadow=row.shadow,
        priority=row.priority,
        start_time=stamp(row.start_at) if row.start_at else None,
        end_time=stamp(row.end_at) if row.end_at else None,
    )
    return pb.RateLimit(
        rate_limit_id=str(row.rate_limit_id),
        settings=settings,
        create_time=stamp(row.created_at),
        update_time=stamp(row.updated_at),
        etag=etag(row.revision),
    )


def limit(row: RateLimit) -> Limit:
    """As deciders hold it."""
    return Limit(
        rate_limit_id=row.rate_limit_id,
        generation=row.generation,
        revision=row.revision,
        name=row.name,
        prefix=row.prefix,
        plans=frozenset(row.plans),
        keys=frozenset(row.keys),
        entry=entry(row.key_kind, row.header),
        unit=row.unit,
        requests=row.requests,
        burst=row.burst,
        closed=row.failure == "CLOSED",
        shadow=row.shadow,
        priority=row.priority,
        start_s=row.start_at.timestamp() if row.start_at else 0.0,
        end_s=row.end_at.timestamp() if row.end_at else float("inf"),
    )


def rate_usage(row: RateBucket, now: datetime) -> pb.Usage:
    now_ns = int(now.timestamp() * 1e9)
    ahead = min(max(0, row.tat - now_ns), row.tolerance)
    return pb.Usage(
        key=row.key,
        used=-(-ahead // row.emission),
        limit=row.tolerance // row.emission,
        refused=row.refused,
        reset_time=Timestamp(seconds=(now_ns + ahead) // 10**9, nanos=(now_ns + ahead) % 10**9),
    )


def quota_usage(row: QuotaCount, now: datetime) -> pb.Usage:
    return pb.Usage(
        key=row.key,
        used=row.used if now < row.ends_at else 0,
        limit=row.quota,
        refused=row.refused,
        reset_time=stamp(row.ends_at),
    )


def stamp(at: datetime) -> Timestamp:
    made = Timestamp()
    made.FromDatetime(at)
    return made
