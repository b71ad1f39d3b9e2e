"""The server cases of connectrpc's conformance suites, sent as raw HTTP/2 to each engine.

Their `Unary` and `ServerStream` are ours; a case says what it sends and which codes are right. Where an
engine does otherwise, KNOWN says so and why, and the test holds it to that.
"""

from __future__ import annotations

import tarfile
from functools import cache
from typing import Any

import pytest
import yaml
from google.rpc import code_pb2

from services.chassis.testing import Lab
from tests import data
from tests.conformance.raw import Reply, frame, send

SUITES = "15_rpc_http/connect_conformance_suites.tar.gz"
WANTED = ("grpc_server_unexpected.yaml", "grpc_server_proto_subformat.yaml")
THEIRS, OURS = "connectrpc.conformance.v1.ConformanceService", "weft.conformance.v1.EchoService"
HTTP_TO_CODE = {415: code_pb2.UNKNOWN, 404: code_pb2.UNIMPLEMENTED, 400: code_pb2.INTERNAL}

# gRPC core's own ways: any `application/grpc+…` is protobuf, the first of two messages is taken, an unknown
# encoding is a parse error; and grpc.aio leaves a caller that sends no message without an answer.
KNOWN = {
    ("aio", "unexpected-codec"): {code_pb2.OK},
    ("aio", "unexpected-compression"): {code_pb2.INTERNAL},
    ("aio", "unary/multiple-requests"): {code_pb2.OK},
    ("aio", "server-stream/multiple-requests"): {code_pb2.OK},
    ("aio", "unary/no-request"): {code_pb2.DEADLINE_EXCEEDED},
    ("aio", "server-stream/no-request"): {code_pb2.DEADLINE_EXCEEDED},
}
CASES = [
    "unary/no-request",
    "unary/multiple-requests",
    "server-stream/no-request",
    "server-stream/multiple-requests",
    "unexpected-verb",
    "unexpected-uri",
    "unexpected-codec",
    "unexpected-compression",
    "unexpected-compressed-message",
    "with-proto-sub-format",
    "without-proto-sub-format",
]


@cache
def cases() -> dict[str, Any]:
    """The suites' cases by name; skips where the outside data is absent."""
    found = {}
    with tarfile.open(data.shared(SUITES)) as archive:
        for member in archive.getmembers():
            if member.name.rsplit("/", 1)[-1] in WANTED and (file := archive.extractfile(member)):
                found.update(
                    {case["request"]["testName"]: case for case in yaml.safe_load(file)["testCases"]}
                )
    return found


@pytest.mark.parametrize("name", CASES)
async def test_a_raw_request_gets_the_code_that_the_suite_allows(lab: Lab, engine: str, name: str) -> None:
    case = cases()[name]
    raw = case["request"]["rawRequest"]
    path = raw["uri"].replace(THEIRS, OURS)
    headers = [(":method", raw["verb"]), (":path", path), (":scheme", "http"), (":authority", "test")]
    headers += [(entry["name"], value) for entry in raw["headers"] for value in entry["value"]]
    items = raw.get("stream", {}).get("items", [])
    body = b"".join(frame(b"", item.get("flags", 0)) for item in items)
    reply = await send(lab.hosted.port, headers, body)
    assert code(reply) in KNOWN.get((engine, name), allowed(case))


def test_every_case_of_the_suites_is_sent() -> None:
    assert set(CASES) == set(cases())


async def test_another_content_type_is_unsupported_media(lab: Lab) -> None:
    headers = [(":method", "POST"), (":path", f"/{OURS}/Unary"), (":scheme", "http"), (":authority", "test")]
    reply = await send(lab.hosted.port, [*headers, ("content-type", "image/jpeg")], b"12345678")
    assert reply.reset or reply.headers[":status"] == "415" or reply.grpc_status != code_pb2.OK


def allowed(case: dict[str, Any]) -> set[int]:
    """What the case accepts; without an error it expects OK."""
    error = case.get("expectedResponse", {}).get("error")
    names = [error["code"], *case.get("otherAllowedErrorCodes", [])] if error else ["CODE_OK"]
    return {code_pb2.Code.Value(name.removeprefix("CODE_")) for name in names}


def code(reply: Reply) -> int:
    """The reply's code as a gRPC client derives it (gRPC's HTTP to status mapping)."""
    if reply.grpc_status is not None:
        return reply.grpc_status
    if not reply.ended:
        return code_pb2.DEADLINE_EXCEEDED
    if reply.reset:
        return code_pb2.INTERNAL
    return HTTP_TO_CODE.get(int(reply.headers.get(":status", 0)), code_pb2.UNKNOWN)
