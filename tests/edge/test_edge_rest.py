"""REST callers are served through the transcoder, with the right codes, shapes and headers."""

from __future__ import annotations

import json

import httpx
import pytest

from tests.edge.conftest import Edge


def reason(answer: httpx.Response) -> str:
    """The reason of an answer that refuses in google.rpc.Status's JSON form."""
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert body["message"]
    assert isinstance(body["code"], int)
    found: str = body["details"][0]["reason"]
    return found


def test_a_read_is_transcoded_over_tls_and_http_2(web: httpx.Client) -> None:
    answer = web.get("/v1/things/t-1")
    assert answer.status_code == 200
    assert answer.http_version == "HTTP/2"
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["thing"]["thingId"] == "t-1"
    assert answer.json()["thing"]["units"] == "1152921504606846976"  # int64 is a JSON string


def test_path_query_and_body_fill_the_request(web: httpx.Client, edge: Edge) -> None:
    read = web.get("/v1/things/t-1", params={"note": "naïve & <b>"})
    assert read.json()["thing"]["name"] == "naïve & <b>"
    thing = {"name": "x", "units": "7", "madeAt": "2026-01-02T03:04:05Z"}
    made = web.post("/v1/things", json=thing)
    assert made.json()["thing"] == thing
    changed = web.patch("/v1/things/t-9", json={"name": "y"}, headers=edge.token())
    assert changed.json()["thing"] == {"thingId": "t-9", "name": "y"}
    suspended = web.post("/v1/things/t-9:suspend", json={"why": "late"})
    assert suspended.json()["thing"] == {"thingId": "t-9", "name": "late"}


def test_a_raw_body_keeps_its_bytes_and_media_type(web: httpx.Client) -> None:
    content = bytes(range(256))
    answer = web.post("/v1/things/t:upload", content=content, headers={"content-type": "image/png"})
    assert answer.json() == {"bytes": 256, "contentType": "image/png"}
    form = web.post("/v1/things/t:upload", data={"grant_type": "x"})
    assert form.json()["contentType"] == "application/x-www-form-urlencoded"
    down = web.get("/v1/things/t:download")
    assert (down.content, down.headers["content-type"]) == (b"<svg/>", "image/svg+xml")


@pytest.mark.parametrize(
    ("code", "http"),
    [
        (1, 499), (2, 500), (3, 400), (4, 504), (5, 404), (6, 409), (7, 403), (8, 429),
        (9, 400), (10, 409), (11, 400), (12, 501), (13, 500), (14, 503), (15, 500), (16, 401),
    ],
)  # fmt: skip
def test_a_services_refusal_keeps_code_message_and_details(web: httpx.Client, code: int, http: int) -> None:
    answer = web.get(f"/v1/fail/{code}")
    assert answer.status_code == http
    body = answer.json()
    assert (body["code"], body["message"]) == (code, "refused as asked")
    assert [each["@type"].rpartition(".")[2] for each in body["details"]] == ["ErrorInfo", "RetryInfo"]
    assert body["details"][0]["reason"] == "AS_ASKED"


def test_an_unknown_route_is_not_found(web: httpx.Client) -> None:
    for path in (
        "/nothing",
        "/v1/nothing",
        "/v1/things/1/parts",
        "/v1",
        "/v1/thingsandmore",
        "/docs/nothing",
    ):
        answer = web.get(path)
        assert (answer.status_code, reason(answer)) == (404, "UNKNOWN_ROUTE"), path


def test_a_verb_that_a_path_does_not_take_is_refused_with_those_it_takes(web: httpx.Client) -> None:
    answer = web.put("/v1/things")
    assert (answer.status_code, reason(answer)) == (405, "UNKNOWN_VERB")
    assert answer.headers["allow"] == "GET, HEAD, POST"
    assert web.get("/v1/things/t:suspend").status_code == 404


def test_head_answers_as_get_without_the_body(web: httpx.Client) -> None:
    whole = web.get("/v1/things/t-1")
    head = web.head("/v1/things/t-1")
    assert (head.status_code, head.content) == (200, b"")
    assert int(head.headers["content-length"]) > 600  # the echoed metadata differ in length
    assert head.headers["content-type"] == whole.headers["content-type"]
    assert web.head("/v1/things/t:suspend").status_code in (404, 405)
    assert web.head("/v1/things").status_code == 401
    assert web.head("/docs").content == b""


def test_an_unknown_query_parameter_is_refused_by_name(web: httpx.Client) -> None:
    answer = web.get("/v1/things/t-1", params={"bogus": "1"})
    assert (answer.status_code, reason(answer)) == (400, "BAD_REQUEST")
    assert '"bogus"' in answer.json()["message"]


@pytest.mark.parametrize(
    "body", ["", "{", '{"name":', "[]", "nonsense", '{"units":"x"}', '{"name":1e}', "\x00"]
)
def test_malformed_json_is_a_bad_request(web: httpx.Client, body: str) -> None:
    answer = web.post("/v1/things", content=body, headers={"content-type": "application/json"})
    if body == "":
        assert answer.json() == {"thing": {}}  # no body is the empty message
    else:
        assert (answer.status_code, reason(answer)) == (400, "BAD_REQUEST")


def test_an_unsupported_media_type_is_refused(web: httpx.Client) -> None:
    for media in (
        "text/plain",
        "application/xml",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
    ):
        answer = web.post("/v1/things", content=b"{}", headers={"content-type": media})
        assert (answer.status_code, reason(answer)) == (415, "UNKNOWN_MEDIA_TYPE"), media
    for media in ("application/json; charset=utf-8", "application/vnd.weft.v1+json", "Application/JSON"):
        answer = web.post("/v1/things", content=b"{}", headers={"content-type": media})
        assert answer.status_code == 200, media


def test_an_oversize_body_is_refused_by_its_methods_own_bound(web: httpx.Client) -> None:
    fits = web.post("/v1/things", json={"name": "x" * 4000})
    assert fits.status_code == 200
    over = web.post("/v1/things", json={"name": "x" * 4096})
    assert (over.status_code, reason(over)) == (413, "OVERSIZE_REQUEST")
    large = web.post("/v1/things/t:suspend", json={"why": "x" * 1_000_000})
    assert large.status_code == 200
    too_large = web.post("/v1/things/t:suspend", json={"why": "x" * (1 << 20)})
    assert (too_large.status_code, reason(too_large)) == (413, "OVERSIZE_REQUEST")


def test_a_call_past_its_time_limit_ends(web: httpx.Client) -> None:
    answer = web.get("/v1/sleep", params={"ms": 2000})
    assert (answer.status_code, reason(answer)) == (504, "TIME_LIMIT")
    assert answer.json()["code"] == 4


def test_a_stream_is_one_json_line_a_message(web: httpx.Client) -> None:
    answer = web.get("/v1/things:watch", params={"count": 3})
    assert [json.loads(line)["thing"]["thingId"] for line in answer.text.splitlines()] == ["0", "1", "2"]


def test_a_stream_is_server_sent_events_for_who_accepts_them(web: httpx.Client) -> None:
    answer = web.get("/v1/things:watch", params={"count": 3}, headers={"accept": "text/event-stream"})
    assert answer.headers["content-type"] == "text/event-stream"
    events = [event for event in answer.text.split("\n\n") if event]
    assert [json.loads(event.removeprefix("data: "))["thing"]["thingId"] for event in events] == [
        "0",
        "1",
        "2",
    ]


def test_a_large_answer_passes_whole(web: httpx.Client, edge: Edge) -> None:
    answer = web.get("/v1/things", params={"page_size": 150_000}, headers=edge.token())
    assert len(answer.content) > 2 << 20
    assert len(answer.json()["things"]) == 150_000


def test_a_json_answer_is_compressed_for_who_accepts_it(web: httpx.Client) -> None:
    for encoding in ("gzip", "br"):
        with web.stream("GET", "/v1/things/t-1", headers={"accept-encoding": encoding}) as answer:
            assert answer.headers["content-encoding"] == encoding
            assert len(b"".join(answer.iter_raw())) < 600
    plain = web.get("/v1/things/t-1", headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers


def test_escaped_slashes_and_dots_never_reach_a_service(web: httpx.Client) -> None:
    assert web.get("/v1/things/a%2Fb").status_code == 400
    assert web.get("/v1/things/a%5Cb").status_code in (400, 404)
    assert web.get("/v1/things/%2e%2e/inside").status_code == 404


def test_only_the_inside_may_set_inside_headers(web: httpx.Client) -> None:
    forged = {
        "x-weft-service": "forged",
        "X-Weft-Subject": "forged",
        "x-envoy-original-path": "/forged",
        "x-envoy-retry-on": "5xx",
    }
    seen = web.get("/v1/things/t-1", headers=forged).json()["seen"]
    assert "forged" not in json.dumps(seen)
    assert "x-envoy-retry-on" not in seen


def test_a_deprecated_method_tells_its_end(web: httpx.Client) -> None:
    answer = web.get("/v1/old")
    assert answer.headers["deprecation"] == "@1767225600"
    assert answer.headers["sunset"] == "Fri, 01 Jan 2027 00:00:00 GMT"


def test_browsers_of_allowed_origins_may_call(web: httpx.Client) -> None:
    asked = {"access-control-request-method": "PATCH", "access-control-request-headers": "authorization"}
    for origin in ("https://app.example.com", "http://localhost:5173"):
        answer = web.options("/v1/things/t", headers={"origin": origin, **asked})
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == origin
        assert "PATCH" in answer.headers["access-control-allow-methods"]
    strange = web.options("/v1/things/t", headers={"origin": "https://evil.example", **asked})
    assert "access-control-allow-origin" not in strange.headers
    read = web.get("/v1/things/t", headers={"origin": "https://app.example.com"})
    assert "grpc-status-details-bin" in read.headers["access-control-expose-headers"]


def test_answers_carry_security_headers(web: httpx.Client, edge: Edge) -> None:
    answer = web.get("/v1/things/t-1")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["strict-transport-security"].startswith("max-age=")
    assert "strict-transport-security" not in httpx.get(edge.url("http") + "/v1/things/t-1").headers


@pytest.mark.parametrize(
    ("chosen", "status"), [("400", 400), ("401", 401), ("503", 503), ("302", 200), ("9", 200)]
)
def test_a_raw_answer_has_the_error_status_that_its_service_chose(
    web: httpx.Client, chosen: str, status: int
) -> None:
    answer = web.get(f"/v1/things/{chosen}:download")
    assert (answer.status_code, answer.text) == (status, "<svg/>")
    assert "x-weft-http-status" not in answer.headers
    assert answer.headers["content-type"] == "image/svg+xml"


def test_no_caller_chooses_a_status(web: httpx.Client) -> None:
    answer = web.get("/v1/things/t:download", headers={"x-weft-http-status": "400"})
    assert answer.status_code == 200
