"""An account is opened, confirmed, signed in with a second factor, and calls through every door."""

import json

import httpx
import pytest

from scripts.browser import Browser, find_browser
from scripts.journey import Journey
from tests import data
from tests.e2e.conftest import Mesh


@pytest.mark.timeout(240)
async def test_an_account_lives_through_every_door(journey: Journey) -> None:
    await journey.register()
    await journey.confirm()
    await journey.sign_in_by_browser()
    async with journey.watching():
        assert await journey.enrol() == 10
        await journey.sign_in()
        assert await journey.call_by_grpc() == journey.display_name
        assert await journey.call_by_rest_with_key() == journey.email
        assert await journey.call_by_betterproto() == journey.email
        await journey.seen_live("API_KEY_CREATED")
    assert journey.seen[:3] == ["REGISTERED", "SIGNED_IN", "SECOND_FACTOR_ADDED"]
    about, entries = await journey.verify_trail()
    assert 5 <= about <= entries


@pytest.mark.skipif(find_browser() is None, reason="no Chromium is installed")
@pytest.mark.timeout(120)
async def test_a_person_does_it_all_in_the_browser(journey: Journey) -> None:
    executable = find_browser()
    assert executable
    async with Browser.open(executable) as browser:
        page = browser.page
        await page.goto(f"{journey.edge}/register")
        await page.fill("[name=displayName]", journey.display_name)
        await page.fill("[name=email]", journey.email)
        await page.fill("[name=password]", journey.password)
        await page.click("#register button")
        await page.wait_for_selector("#done:visible")
        link = await journey.mailed_link()
        await page.goto(link)
        await page.click("#confirm button")
        await page.wait_for_selector("#done:visible")
        journey.access = await browser.sign_in(journey.edge, journey.email, journey.password)
        await page.wait_for_selector("#activity tr")
        assert await page.inner_text("#name") == journey.display_name
        await page.click("#enrol")
        await page.wait_for_selector("#qr:visible")
        assert await page.evaluate("document.getElementById('qr').naturalWidth") > 100
        await page.click("#sign-out")
        await page.wait_for_url("**/sign-in")
        assert browser.problems == []


async def test_following_the_mailed_link_twice_uses_nothing_up(journey: Journey) -> None:
    await journey.register()
    link = await journey.mailed_link()
    for _ in range(2):
        assert (await journey.rest.get(link)).status_code == httpx.codes.OK
    await journey.confirm()
    assert journey.user_id


@pytest.mark.timeout(180)
async def test_naughty_names_come_back_byte_for_byte_or_are_refused_by_name(member: Journey) -> None:
    names = json.loads(data.shared("15_rpc_http/blns.json").read_text("utf-8"))
    headers = {"authorization": f"Bearer {member.access}"}

    async def keep(name: str) -> bool:
        """Whether the name was kept; then it came back as it was."""
        body = {"profile": {"displayName": name}, "updateMask": "displayName"}
        answer = await member.rest.patch(f"/v1/users/{member.user_id}", json=body, headers=headers)
        if answer.status_code == httpx.codes.OK:
            assert answer.json()["user"]["profile"]["displayName"].encode() == name.encode()
            return True
        assert answer.status_code == httpx.codes.BAD_REQUEST, name
        assert answer.json()["details"][0]["reason"] in ("PROFILE_REFUSED", "MALFORMED"), name
        return False

    kept = [await keep(name) for name in names]
    assert sum(kept) > 400


async def test_activity_comes_as_server_sent_events_too(member: Journey) -> None:
    headers = {"authorization": f"Bearer {member.access}", "accept": "text/event-stream"}
    url = f"/v1/users/{member.user_id}/activity:watch"
    kinds = []
    async with member.rest.stream("GET", url, headers=headers) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        async for line in answer.aiter_lines():
            if line.startswith("data:"):
                kinds.append(json.loads(line[5:])["activity"]["kind"])
            if len(kinds) == 2:
                break
    assert kinds == ["ACTIVITY_KIND_REGISTERED", "ACTIVITY_KIND_SIGNED_IN"]


async def test_a_revoked_key_is_refused_at_once(member: Journey) -> None:
    await member.call_by_rest_with_key()
    headers = {"authorization": f"Bearer {member.access}"}
    keys = f"/v1/owners/{member.user_id}/api-keys"
    (key,) = (await member.rest.get(keys, headers=headers)).json()["apiKeys"]
    revoked = await member.rest.delete(f"{keys}/{key['apiKeyId']}", headers=headers)
    assert revoked.status_code == httpx.codes.OK, revoked.text
    refused = await member.rest.get(f"/v1/users/{member.user_id}", headers={"x-api-key": member.api_key})
    assert refused.status_code == httpx.codes.UNAUTHORIZED


def test_status_tells_health_by_its_exit_code(mesh: Mesh) -> None:
    assert mesh.weft("status").returncode == 0
