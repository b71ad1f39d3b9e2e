"""An application signs a person in through the edge, with the answers that the standards ask for."""

import base64
import hashlib
import secrets
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest

from scripts.browser import Browser, find_browser
from scripts.journey import Journey

REDIRECT, TOKEN = "https://app.weft.example/back", "/oauth2/token"


async def application(journey: Journey) -> dict[str, Any]:
    email, password = journey.admin
    answer = await journey.rest.post("/v1/sessions", json={"email": email, "password": password})
    headers = {"authorization": f"Bearer {answer.json()['tokens']['accessToken']}"}
    grants = ["O_AUTH_GRANT_TYPE_AUTHORIZATION_CODE", "O_AUTH_GRANT_TYPE_REFRESH_TOKEN"]
    settings = {"name": "Planner", "redirectUris": [REDIRECT], "grantTypes": grants}
    body = {"settings": settings, "confidential": True}
    created = await journey.rest.post("/v1/oauth-clients", json=body, headers=headers)
    assert created.status_code == httpx.codes.OK, created.text
    made: dict[str, Any] = created.json()
    return made


async def code_by_browser(journey: Journey, executable: str, query: str) -> str:
    """The person opens the application's link, signs in, allows it, and is sent back."""
    async with Browser.open(executable) as browser:
        page = browser.page
        await page.route("https://app.weft.example/**", lambda route: route.fulfill(body="back"))
        await page.goto(f"{journey.edge}/authorize?{query}")
        await page.wait_for_url("**/sign-in?next=*")
        await page.fill("#first [name=email]", journey.email)
        await page.fill("#first [name=password]", journey.password)
        await page.click("#first button")
        await page.wait_for_selector("#consent:visible")
        assert await page.inner_text("#name") == "Planner"
        await page.click("#consent button[type=submit]")
        await page.wait_for_url("https://app.weft.example/back?*")
        assert browser.problems == []
        answer = parse_qs(urlsplit(page.url).query)
    assert answer["state"] == ["s-1"]
    return answer["code"][0]


async def code_by_rest(journey: Journey, query: str) -> str:
    body = {"query": query, "decision": "CONSENT_DECISION_GRANT"}
    headers = {"authorization": f"Bearer {journey.access}"}
    answer = await journey.rest.post("/v1/authorizations", json=body, headers=headers)
    return parse_qs(urlsplit(answer.json()["redirectUri"]).query)["code"][0]


@pytest.mark.timeout(120)
async def test_an_application_signs_a_person_in(member: Journey) -> None:
    rest, made, verifier = member.rest, await application(member), secrets.token_urlsafe(48)
    auth = (made["client"]["clientId"], made["clientSecret"])
    form = await code_form(member, auth[0], verifier)
    given = await rest.post(TOKEN, data=form, auth=auth)
    assert (given.status_code, given.headers["content-type"]) == (200, "application/json"), given.text
    assert given.headers["cache-control"] == "no-store"
    bearer = {"authorization": f"Bearer {given.json()['access_token']}"}
    info = await rest.get("/oauth2/userinfo", headers=bearer)
    assert info.json()["name"] == member.display_name
    narrow = await rest.get(f"/v1/users/{member.user_id}", headers=bearer)
    assert narrow.status_code == httpx.codes.FORBIDDEN
    again = await rest.post(TOKEN, data=form, auth=auth)
    assert (again.status_code, again.json()) == (400, {"error": "invalid_grant"})
    refresh = {"grant_type": "refresh_token", "refresh_token": given.json()["refresh_token"]}
    assert (await rest.post(TOKEN, data=refresh, auth=auth)).json() == {"error": "invalid_grant"}
    told = await rest.post("/oauth2/introspect", data={"token": given.json()["access_token"]}, auth=auth)
    assert told.json() == {"active": False}


async def test_the_endpoints_answer_as_the_standards_say(journey: Journey) -> None:
    rest = journey.rest
    discovery = (await rest.get("/.well-known/openid-configuration")).json()
    assert discovery == (await rest.get("/.well-known/oauth-authorization-server")).json()
    assert urlsplit(discovery["token_endpoint"]).path == TOKEN
    wrong = await rest.post(TOKEN, data={"grant_type": "refresh_token"}, auth=("a" * 24, "wrong"))
    assert (wrong.status_code, wrong.json()["error"]) == (401, "invalid_client")
    assert wrong.headers["www-authenticate"].startswith("Basic")
    assert "x-weft-http-status" not in wrong.headers


async def code_form(member: Journey, client_id: str, verifier: str) -> dict[str, str]:
    """What the application sends to the token endpoint, once the person is back."""
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
    asked = {
        "response_type": "code",
        "client_id": client_id,
        "redirect_uri": REDIRECT,
        "scope": "openid profile offline_access",
        "state": "s-1",
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    query, executable = urlencode(asked), find_browser()
    code = await (code_by_browser(member, executable, query) if executable else code_by_rest(member, query))
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": REDIRECT}
    return {**form, "code_verifier": verifier}
