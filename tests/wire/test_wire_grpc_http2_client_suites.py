"""The client cases of connectrpc's conformance suites: their raw answers, sent by a scripted server."""

from __future__ import annotations

import base64
import gzip
import tarfile
from functools import cache
from typing import Any

import pytest
import yaml
from google.rpc import code_pb2

from tests import data
from tests.wire import octets as o
from tests.wire.callers import Outcome, calling, outcome
from tests.wire.scripted import Accepted, scripted

SUITES = "15_rpc_http/connect_conformance_suites.tar.gz"
WANTED = (
    "grpc_client_unexpected.yaml",
    "grpc_client_empty.yaml",
    "grpc_client_trailers.yaml",
    "grpc_client_proto_subformat.yaml",
    "client_http_to_rpc_code.yaml",
)
KINDS = {
    "STREAM_TYPE_UNARY": "Unary",
    "STREAM_TYPE_SERVER_STREAM": "ServerStream",
    "STREAM_TYPE_CLIENT_STREAM": "ClientStream",
    "STREAM_TYPE_HALF_DUPLEX_BIDI_STREAM": "Bidi",
    "STREAM_TYPE_FULL_DUPLEX_BIDI_STREAM": "Bidi",
}
# A client on bytes cannot know that a message is JSON; theirs fails to parse it.
NOT_OURS = {"unexpected-codec"}


@cache
def cases() -> dict[str, Any]:
    """The suites' cases by name; empty where the outside data is absent."""
    try:
        path = data.shared(SUITES)
    except pytest.skip.Exception:
        return {}
    found = {}
    with tarfile.open(path) as archive:
        for member in archive.getmembers():
            name = member.name.rsplit("/", 1)[-1]
            if name in WANTED and (file := archive.extractfile(member)):
                for case in yaml.safe_load(file)["testCases"]:
                    found[f"{name.removesuffix('.yaml')}/{case['request']['testName']}"] = case
    return found


def fields(entries: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(entry["name"].lower(), value) for entry in entries for value in entry["value"]]


def payload(item: dict[str, Any]) -> bytes:
    """A message that the suite writes as text or as an empty protobuf."""
    given = item.get("payload", {})
    raw = given.get("text", "").encode() or base64.b64decode(given.get("binary", ""))
    packed = "compression" in given and given["compression"] == "COMPRESSION_GZIP"
    return o.message(gzip.compress(raw) if packed else raw, item.get("flags", 0))


def answer(raw: dict[str, Any]) -> bytes:
    """The bytes on stream 1 for a suite's rawResponse."""
    status = str(raw.get("status_code", raw.get("statusCode", 200)))
    head = [(":status", status), *fields(raw.get("headers", []))]
    body = b"".join(payload(item) for item in raw.get("stream", {}).get("items", []))
    trailers = fields(raw.get("trailers", []))
    if not body and not trailers:
        return o.headers(1, head, o.WHOLE)
    if not trailers:
        return o.headers(1, head) + o.data(1, body, o.END_STREAM)
    return o.headers(1, head) + (o.data(1, body) if body else b"") + o.headers(1, trailers, o.WHOLE)


def raw_of(case: dict[str, Any]) -> dict[str, Any]:
    definition = case["request"]["requestMessages"][0]["responseDefinition"]
    raw: dict[str, Any] = definition.get("rawResponse") or definition["raw_response"]
    return raw


def code(value: Any) -> int:
    return value if isinstance(value, int) else int(code_pb2.Code.Value(value.removeprefix("CODE_")))


@pytest.mark.parametrize("name", [name for name in cases() if name.rsplit("/", 1)[-1] not in NOT_OURS])
async def test_a_raw_answer_gives_the_outcome_that_the_suite_expects(name: str) -> None:
    case = cases()[name]
    octets, rpc = answer(raw_of(case)), KINDS[case["request"].get("streamType", "STREAM_TYPE_UNARY")]

    async def script(peer: Accepted) -> None:
        await peer.greet()
        await peer.call()
        await peer.send(octets)
        await peer.echo()

    async with scripted(script) as server, calling("wire", server.port) as channel:
        check(case, await outcome(channel, rpc))


def check(case: dict[str, Any], found: Outcome) -> None:
    expected = case["expectedResponse"]
    error = expected.get("error")
    allowed = {code(each) for each in case.get("otherAllowedErrorCodes", [])}
    assert found.code in ({code(error["code"])} | allowed if error else {0})
    if error and "message" in error:
        assert found.details == error["message"]
    for which, given in (("responseHeaders", found.initial), ("responseTrailers", found.trailing)):
        pairs = [(str(name), value) for name, value in given]
        for name, value in fields(expected.get(which, [])):
            assert (name, value) in pairs
    if "payloads" in expected:
        assert len(found.messages) == len(expected["payloads"])


def test_the_suites_are_all_here() -> None:
    data.shared(SUITES)
    assert len(cases()) == 14 + 11 + 4 + 4 + 2
