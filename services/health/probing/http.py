"""A page by HTTP."""

from __future__ import annotations

BYTES_MAX = 8 << 20  # Statistics of a large mesh are a tenth of it.


class BadAnswer(Exception):
    """It answered, and not well."""


async def get(url: str) -> bytes:
    """Its body. Raises BadAnswer, or httpx's errors."""
    import httpx  # Only where something is watched by it.

    async with (
        httpx.AsyncClient(timeout=None, trust_env=False) as client,
        client.stream("GET", url) as answer,
    ):
        if answer.status_code >= 400:
            raise BadAnswer(f"HTTP {answer.status_code}")
        body = bytearray()
        async for part in answer.aiter_bytes():
            body += part
            if len(body) > BYTES_MAX:
                raise BadAnswer("it does not end")
    return bytes(body)
