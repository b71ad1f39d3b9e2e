"""A headless Chromium that is already on the machine, driven as a person would drive it."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from playwright.async_api import async_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# As root there is no sandbox; the rest keeps the browser from calling home.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WAIT_MS = 15_000


def find_browser() -> str | None:
    """Path of an installed Chromium; None when there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One browser with one page."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.problems: list[str] = []  # What the page's scripts threw.
        page.set_default_timeout(WAIT_MS)
        page.on("pageerror", lambda error: self.problems.append(str(error)))

    @classmethod
    @asynccontextmanager
    async def open(cls, executable: str) -> AsyncIterator[Browser]:
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
            context = await browser.new_context(ignore_https_errors=True)  # The edge's own authority.
            try:
                yield cls(await context.new_page())
            finally:
                await browser.close()

    async def sign_in(self, edge: str, email: str, password: str) -> str:
        """Signs in on the page /sign-in; returns the access token that the page got by grpc-web."""
        await self.page.goto(f"{edge}/sign-in")
        await self.page.fill("#first [name=email]", email)
        await self.page.fill("#first [name=password]", password)
        await self.page.click("#first button")
        await self.page.wait_for_url("**/account")
        return str(await self.page.evaluate("sessionStorage.getItem('weft.access')"))
