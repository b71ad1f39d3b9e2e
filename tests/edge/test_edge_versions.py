"""The API version may be named in the path, a header, the media type or the query."""

from __future__ import annotations

import httpx
import pytest

WAYS: list[tuple[str, dict[str, str]]] = [
    ("", {"x-api-version": "{}"}),
    ("", {"x-api-version": "v{}"}),
    ("", {"accept": "application/vnd.weft.v{}+json"}),
    ("", {"accept": "text/html, application/vnd.weft.v{}+json;q=0.9"}),
    ("?api-version={}", {}),
    ("?note=x&api-version=v{}", {}),
]


def ask(web: httpx.Client, path: str, way: tuple[str, dict[str, str]], version: int) -> httpx.Response:
    query, headers = way
    return web.get(
        path + query.format(version), headers={name: value.format(version) for name, value in headers.items()}
    )


@pytest.mark.parametrize("way", WAYS)
def test_a_path_without_version_takes_the_one_named_elsewhere(
    web: httpx.Client, way: tuple[str, dict[str, str]]
) -> None:
    assert ask(web, "/things/t-1", way, 1).json()["thing"]["thingId"] == "t-1"
    assert ask(web, "/v1/things/t-1", way, 1).json()["thing"]["thingId"] == "t-1"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("path", ["/things/t-1", "/v1/things/t-1"])
def test_an_unknown_version_is_refused_with_those_available(
    web: httpx.Client, way: tuple[str, dict[str, str]], path: str
) -> None:
    answer = ask(web, path, way, 7)
    assert (answer.status_code, answer.json()["code"]) == (400, 3)
    assert "available" in answer.json()["message"]
    assert "v1" in answer.json()["message"]


def test_an_unknown_version_in_the_path_is_refused(web: httpx.Client) -> None:
    answer = web.get("/v7/things/t-1")
    assert answer.status_code == 400
    assert "available: v1" in answer.json()["message"]


def test_a_path_that_names_no_version_at_all_is_not_found(web: httpx.Client) -> None:
    assert web.get("/things/t-1").status_code == 404


def test_other_verbs_and_streams_take_a_version_too(web: httpx.Client) -> None:
    version = {"x-api-version": "1"}
    assert web.post("/things", json={"name": "n"}, headers=version).json()["thing"]["name"] == "n"
    assert web.head("/things/t-1", headers=version).status_code == 200
    assert web.get("/things", headers=version).status_code == 401
    events = web.get("/things:watch", headers={**version, "accept": "text/event-stream"})
    assert events.headers["content-type"] == "text/event-stream"
    assert web.get("/inside", headers=version).status_code == 404
