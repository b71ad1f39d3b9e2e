"""connect-web in Chromium, through Envoy, against our server: the kinds that a browser can have."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from scripts.browser import Browser, find_browser
from services.chassis.wire.server import Server
from tests.wire.envoy_front import fronted
from weft.identity.v1 import (
    activity_pb2,
    activity_pb2_grpc,
    user_pb2,
    user_pb2_grpc,
)

BUNDLE = Path(__file__).parents[2] / "gen" / "web" / "weft.js"
ACTIVITIES = 200
PAGE = """<!doctype html><title>calls</title><script type="module">
import { createClient, createGrpcWebTransport, identityV1, Code, ConnectError } from "/weft.js";
const transport = createGrpcWebTransport({ baseUrl: location.origin });
const users = createClient(identityV1.UserService, transport);
const activity = createClient(identityV1.ActivityService, transport);
window.unary = async (userId) => {
  try { return (await users.getUser({ userId })).user.userId; }
  catch (error) { return [Code[ConnectError.from(error).code], ConnectError.from(error).rawMessage]; }
};
window.streamed = async (most) => {
  const found = [];
  for await (const answer of activity.watchActivity({ userId: "u" })) {
    found.push(Number(answer.item.value.sequence));
    if (found.length == most) break;
  }
  return found.length;
};
window.ready = true;
</script>"""


class Users(user_pb2_grpc.UserServiceServicer):
    async def GetUser(self, request: Any, context: Any) -> Any:
        if request.user_id == "nobody":
            await context.abort(grpc.StatusCode.NOT_FOUND, "kein Nutzer: 50 %")
        return user_pb2.GetUserResponse(user=user_pb2.User(user_id=request.user_id))


class Activities(activity_pb2_grpc.ActivityServiceServicer):
    async def WatchActivity(self, _request: Any, _context: Any) -> AsyncIterator[Any]:
        for number in range(ACTIVITIES):
            activity = activity_pb2.Activity(sequence=number)
            yield activity_pb2.WatchActivityResponse(activity=activity)


@pytest.fixture(scope="module")
async def page(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Any]:
    executable = find_browser()
    if executable is None:
        pytest.skip("there is no Chromium on this machine")
    folder = tmp_path_factory.mktemp("browser")
    (folder / "page.html").write_text(PAGE)
    server = Server()
    user_pb2_grpc.add_UserServiceServicer_to_server(Users(), server)
    activity_pb2_grpc.add_ActivityServiceServicer_to_server(Activities(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    pages = {"/calls.html": folder / "page.html", "/weft.js": BUNDLE}
    try:
        async with fronted(port, folder, pages=pages) as front, Browser.open(executable) as browser:
            await browser.page.goto(f"http://127.0.0.1:{front}/calls.html")
            await browser.page.wait_for_function("window.ready")
            yield browser.page
            assert browser.problems == []
    finally:
        await server.stop(1.0)


async def test_connect_web_makes_unary_calls(page: Any) -> None:
    assert await page.evaluate("window.unary('u-1')") == "u-1"
    assert await page.evaluate("window.unary('nobody')") == ["NotFound", "kein Nutzer: 50 %"]


async def test_connect_web_reads_streams_to_their_end_or_breaks_off(page: Any) -> None:
    assert await page.evaluate("window.streamed(0)") == ACTIVITIES
    assert await page.evaluate("window.streamed(5)") == 5
    assert await page.evaluate("window.unary('u-2')") == "u-2"
