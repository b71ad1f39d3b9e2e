"""Reads declared cacheable are kept by the edge and validated by ETag."""

from __future__ import annotations

import httpx

from tests.edge.conftest import Edge


def test_a_kept_answer_is_served_without_the_service(web: httpx.Client, edge: Edge) -> None:
    first = web.get("/v1/posters/kept")
    assert first.headers["cache-control"] == "public, max-age=60"
    second = web.get("/v1/posters/kept")
    assert second.content == first.content
    assert second.headers["etag"] == first.headers["etag"]
    assert "age" in second.headers
    assert edge.probe.asked["kept"] == 1


def test_who_has_the_current_answer_gets_304(web: httpx.Client) -> None:
    tag = web.get("/v1/posters/tagged").headers["etag"]
    for known in (tag, tag.removeprefix("W/"), f'"other", {tag}', "*"):
        answer = web.get("/v1/posters/tagged", headers={"if-none-match": known})
        assert (answer.status_code, answer.content) == (304, b""), known
        assert answer.headers["etag"] == tag
    other = web.get("/v1/posters/tagged", headers={"if-none-match": '"other"'})
    assert other.status_code == 200


def test_different_answers_have_different_tags(web: httpx.Client) -> None:
    tags = {web.get(f"/v1/posters/d-{number}").headers["etag"] for number in range(20)}
    assert len(tags) == 20


def test_paths_with_a_query_are_validated_but_not_kept(web: httpx.Client, edge: Edge) -> None:
    for _ in range(2):
        assert web.get("/v1/posters/queried?size=l").headers["etag"]
    assert edge.probe.asked["queried"] == 2
    refused = web.get("/v1/posters/queried?bogus=1")
    assert (refused.status_code, refused.json()["details"][0]["reason"]) == (400, "BAD_REQUEST")


def test_a_refusal_is_not_kept(web: httpx.Client) -> None:
    answer = web.get("/v1/posters/none")
    assert (answer.status_code, answer.json()["message"]) == (404, "no such poster")
    assert "cache-control" not in answer.headers
    assert "etag" not in answer.headers


def test_the_others_are_not_kept(web: httpx.Client, edge: Edge) -> None:
    before = edge.probe.asked["GetThing"]
    assert "etag" not in web.get("/v1/things/unkept").headers
    web.get("/v1/things/unkept")
    assert edge.probe.asked["GetThing"] == before + 2


def test_a_kept_answer_is_compressed_and_headless_like_others(web: httpx.Client) -> None:
    whole = web.get("/v1/posters/whole")
    head = web.head("/v1/posters/whole")
    assert (head.status_code, head.content) == (200, b"")
    assert int(head.headers["content-length"]) >= len(whole.content) - 1


def test_a_bad_token_is_refused_before_the_cache(web: httpx.Client) -> None:
    web.get("/v1/posters/guarded")
    assert web.get("/v1/posters/guarded", headers={"authorization": "Bearer x"}).status_code == 401
