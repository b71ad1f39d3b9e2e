"""What raw bytes, strange requests and a suite of JSON files meet at the edge."""

from __future__ import annotations

import json
import os
import socket
import ssl
import tarfile
from pathlib import Path

import httpx
import pytest

from tests.edge.conftest import ROOT, Edge, until

SUITE = "15_rpc_http/jsontestsuite_parsing.tar.gz"

# What Envoy's JSON reader takes though JSON does not have it.
LENIENT = {
    "n_object_key_with_single_quotes.json",
    "n_object_single_quote.json",
    "n_object_trailing_comma.json",
    "n_object_unquoted_key.json",
    "n_structure_no_data.json",  # no body is the empty message
}


def raw(edge: Edge, request: bytes, *, whole: bool = False) -> bytes:
    """What the plain door answers to bytes: its first part, or all until it closes."""
    with socket.create_connection(("127.0.0.1", edge.settings.port("http") or 0), timeout=10) as line:
        line.sendall(request)
        first = line.recv(65536)
        return first + b"".join(iter(lambda: line.recv(65536), b"")) if whole else first


def calls(edge: Edge) -> int:
    """How many calls the services took, the edge's own for keys aside."""
    return sum(count for name, count in list(edge.probe.asked.items()) if name != "GetKeys")  # At one moment.


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (b"GET / HTTP/9.9\r\nhost: a\r\n\r\n", {400, 426, 505}),
        (b"GET /v1/things/1 HTTP/1.1\r\n\r\n", {400}),
        (b"nonsense\r\n\r\n", {400}),
        (b"GET /v1/things/1 HTTP/1.1\r\nhost: a\r\nbad header: x\r\n\r\n", {400}),
        (b"GET /v1/things/1 HTTP/1.1\r\nhost: a\r\nunder_score: x\r\nconnection: close\r\n\r\n", {400}),
        (b"GET /v1/things/1 HTTP/1.1\r\nhost: a\r\nx: " + b"x" * 40_000 + b"\r\n\r\n", {431}),
        (b"GET /v1/things/1 HTTP/1.1\r\nhost: a\r\n" + b"x: 1\r\n" * 200 + b"\r\n", {431}),
        (
            b"POST /v1/things HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
            b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            {400},
        ),
    ],
)  # fmt: skip
def test_a_broken_request_never_reaches_a_service(edge: Edge, request_: bytes, expected: set[int]) -> None:
    before = calls(edge)
    assert status(raw(edge, request_)) in expected
    assert calls(edge) == before


def test_a_body_that_breaks_off_never_reaches_a_service(edge: Edge) -> None:
    before = calls(edge)
    head = b"POST /v1/things HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n"
    with socket.create_connection(("127.0.0.1", edge.settings.port("http") or 0), timeout=10) as line:
        line.sendall(head + b"{}")
        line.shutdown(socket.SHUT_WR)
        assert line.recv(65536) == b""
    assert calls(edge) == before


def test_a_body_that_drips_ends_with_the_methods_time(edge: Edge) -> None:
    before = calls(edge)
    head = (
        b"POST /v1/sleep HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n"
    )
    answer = raw(edge, head + b"{")
    assert status(answer) == 408
    assert b"SLOW_REQUEST" in answer
    assert calls(edge) == before


def test_head_over_http_1_leaves_no_bytes_behind(edge: Edge) -> None:
    one = b"HEAD /v1/things/1 HTTP/1.1\r\nhost: a\r\n\r\n"
    last = b"HEAD /v1/posters/raw HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
    answer = raw(edge, one + last, whole=True)
    parts = answer.split(b"\r\n\r\n")
    assert (len(parts), parts[-1]) == (3, b"")
    assert all(part.startswith(b"HTTP/1.1 200") for part in parts[:2])


def test_only_tls_1_3_is_spoken(edge: Edge) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection(("127.0.0.1", edge.settings.port("https") or 0), timeout=10) as line,
        pytest.raises(ssl.SSLError),
    ):
        old.wrap_socket(line)


def test_the_access_log_tells_the_method_but_no_secret(edge: Edge, web: httpx.Client) -> None:
    token = edge.token(sub="u-logged")
    web.get("/v1/things/very-private", params={"note": "hidden"}, headers={**token, "x-api-key": "wk_good"})
    web.get("/v1/things/very-private", params={"note": "hidden"}, headers=token)
    log = edge.out / "access.jsonl"

    def logged() -> bool:
        return "u-logged" in log.read_text()

    until(logged, "the line of the call")
    text = log.read_text()
    for secret in (token["authorization"].split(".")[2], "very-private", "hidden", "wk_good"):
        assert secret not in text
    line = next(json.loads(each) for each in text.splitlines() if "u-logged" in each)
    assert (line["method"], line["verb"], line["status"]) == (
        "weft.probe.v1.ProbeService.GetThing",
        "GET",
        200,
    )
    assert line["route"] == "/v1/things/*"


def test_no_json_of_the_parsing_suite_meets_a_5xx(web: httpx.Client, edge: Edge) -> None:
    shared = Path(os.environ.get("WEFT_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not (shared / SUITE).exists():
        pytest.skip(f"no shared data: {SUITE}")
    codes: dict[str, int] = {}
    with tarfile.open(shared / SUITE) as suite:
        for member in suite:
            file = suite.extractfile(member)
            if file is None or not member.name.endswith(".json"):
                continue
            caller = edge.token(sub=f"suite-{len(codes) // 100}")  # none of them beyond its rate
            headers = {"content-type": "application/json", **caller}
            answer = web.post("/v1/things", content=file.read(), headers=headers)
            codes[Path(member.name).name] = answer.status_code
    assert len(codes) > 300
    assert {name: code for name, code in codes.items() if code not in (200, 400, 413)} == {}
    accepted = {name for name, code in codes.items() if code == 200 and name.startswith("n_")}
    assert accepted == LENIENT
