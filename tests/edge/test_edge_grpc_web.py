"""gRPC-Web callers, binary and text, unary and streams."""

from __future__ import annotations

import base64
import struct
from typing import Any

import httpx
import pytest

from tests.edge.probe import INTERFACE, Schema

BINARY = "application/grpc-web+proto"
TEXT = "application/grpc-web-text+proto"


def frame(message: Any) -> bytes:
    body = message.SerializeToString()
    return struct.pack(">BI", 0, len(body)) + body


def unframe(content: bytes) -> tuple[list[bytes], dict[str, str]]:
    """Messages and trailers of a body."""
    messages, trailers, at = [], {}, 0
    while at < len(content):
        flag, length = struct.unpack_from(">BI", content, at)
        body = content[at + 5 : at + 5 + length]
        assert len(body) == length
        at += 5 + length
        if flag & 0x80:
            pairs = (line.split(":", 1) for line in body.decode().split("\r\n") if line)
            trailers = {name.lower(): value.strip() for name, value in pairs}
        else:
            messages.append(body)
    return messages, trailers


def send(web: httpx.Client, method: str, body: bytes, media: str) -> tuple[list[bytes], dict[str, str]]:
    """Sends a body; trailers are those of the body, or the headers where the call was refused at once."""
    text = "text" in media
    content = base64.b64encode(body) if text else body
    headers = {"content-type": media, "accept": media, "x-grpc-web": "1"}
    answer = web.post(f"/{INTERFACE}/{method}", content=content, headers=headers)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("application/grpc-web")
    parts = answer.text.split("=") if text else []
    decoded = b"".join(base64.b64decode(part + "=" * (-len(part) % 4)) for part in parts if part)
    messages, trailers = unframe(decoded if text else answer.content)
    return messages, trailers or dict(answer.headers)


@pytest.mark.parametrize("media", [BINARY, TEXT])
def test_a_unary_call_passes(web: httpx.Client, schema: Schema, media: str) -> None:
    messages, trailers = send(web, "GetThing", frame(schema.input("GetThing")(thing_id="w-1")), media)
    thing = schema.output("GetThing").FromString(messages[0])  # type: ignore[attr-defined]
    assert (thing.thing.thing_id, trailers["grpc-status"]) == ("w-1", "0")


@pytest.mark.parametrize("media", [BINARY, TEXT])
def test_a_stream_passes(web: httpx.Client, schema: Schema, media: str) -> None:
    messages, trailers = send(web, "WatchThings", frame(schema.input("WatchThings")(count=4)), media)
    assert (len(messages), trailers["grpc-status"]) == (4, "0")


@pytest.mark.parametrize("media", [BINARY, TEXT])
def test_a_services_refusal_arrives(web: httpx.Client, schema: Schema, media: str) -> None:
    _, trailers = send(web, "FailThing", frame(schema.input("FailThing")(code=9)), media)
    assert (trailers["grpc-status"], trailers["grpc-message"]) == ("9", "refused as asked")
    assert trailers["grpc-status-details-bin"]


def test_the_edges_own_refusals_arrive_as_statuses(web: httpx.Client, schema: Schema) -> None:
    for method, status in (("ListThings", "16"), ("Nothing", "12"), ("InsideThing", "12")):
        _, trailers = send(web, method, frame(schema.input("ListThings")()), BINARY)
        assert trailers["grpc-status"] == status, method
        assert trailers["grpc-status-details-bin"]


@pytest.mark.parametrize("body", [b"\x00\x00\x00", b"\x00\x00\x00\x00\x09abc", b"\x00\xff\xff\xff\xff"])
def test_a_truncated_frame_is_refused(web: httpx.Client, body: bytes) -> None:
    _, trailers = send(web, "GetThing", body, BINARY)
    assert trailers["grpc-status"] not in ("0", "2")


def test_bad_base64_is_refused(web: httpx.Client) -> None:
    headers = {"content-type": TEXT, "accept": TEXT}
    answer = web.post(f"/{INTERFACE}/GetThing", content=b"!!!!", headers=headers)
    assert answer.status_code in (200, 400)
    if answer.status_code == 200:
        assert answer.headers["grpc-status"] not in ("0", "2")


def test_another_media_type_is_refused(web: httpx.Client) -> None:
    answer = web.post(f"/{INTERFACE}/GetThing", json={})
    assert answer.status_code == 415
    assert answer.json()["details"][0]["reason"] == "UNKNOWN_MEDIA_TYPE"
    assert web.get(f"/{INTERFACE}/GetThing").status_code == 405
