"""How Stripe's client speaks HTTP here: with httpx, once for each call, and with no proxy unasked.

A module of its own, for it imports Stripe's client, which takes as long as the rest of a service.
"""

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any

import httpx
from stripe import APIConnectionError, HTTPClient


class Http(HTTPClient):
    name = "httpx"

    def __init__(self, timeout_s: float) -> None:
        super().__init__()
        self._http = httpx.AsyncClient(timeout=timeout_s, trust_env=False)

    async def request_async(
        self, method: str, url: str, headers: Mapping[str, str], post_data: Any = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        """Raises APIConnectionError."""
        try:
            response = await self._http.request(method, url, headers=headers, content=post_data or None)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise APIConnectionError(type(error).__name__) from error  # type: ignore[no-untyped-call]
        return response.content, response.status_code, response.headers

    def sleep_async(self, secs: float) -> Awaitable[None]:
        return asyncio.sleep(secs)

    async def close_async(self) -> None:
        await self._http.aclose()
