"""The API version a REST caller names: in the path, a header, the media type or the query.

The path is the whole truth (`/v1/...`). A path without version takes it from one of the other three; where
both are there they must agree. gRPC callers name it in the package.
"""

from __future__ import annotations

from collections.abc import Iterable

from .refusals import refuse
from .wire import Json, contains, present, unlike

HEADER = "x-api-version"
PARAMETER = "api-version"
MEDIA = "application/vnd.weft."


def refusals(allowed: Iterable[int], line: str) -> list[Json]:
    """Routes that refuse a request naming another version than the allowed ones."""
    either = "|".join(map(str, allowed))
    bad: list[Json] = [
        {"headers": [present(HEADER), unlike(HEADER, f"v?({either})")]},
        {"headers": [contains("accept", MEDIA), unlike("accept", rf"(?i).*vnd\.weft\.v({either})\+json.*")]},
        {
            "headers": [unlike(":path", rf"[^?]*\?(.*&)?{PARAMETER}=v?({either})(&.*)?")],
            "query_parameters": [{"name": PARAMETER, "present_match": True}],
        },
    ]
    return [{"match": {"prefix": "/", **match}, **refuse(400, line)} for match in bad]


def named() -> list[Json]:
    """Matches of requests that name a version besides the path."""
    return [
        {"prefix": "/", "headers": [present(HEADER)]},
        {"prefix": "/", "headers": [contains("accept", MEDIA)]},
        {"prefix": "/", "query_parameters": [{"name": PARAMETER, "present_match": True}]},
    ]


def available(versions: Iterable[int]) -> str:
    """`v1, v2`"""
    return ", ".join(f"v{version}" for version in versions)
