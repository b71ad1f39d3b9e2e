"""gRPC callers: four kinds of rpc, and every refusal of the edge as a status with details."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from tests.edge.conftest import Edge, caller, until
from tests.edge.probe import INTERFACE, Schema


def refusal(error: grpc.RpcError) -> tuple[grpc.StatusCode, str]:
    """Code and reason; the details repeat the code."""
    assert isinstance(error, grpc.Call)
    trailers = dict(error.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    assert status.code == error.code().value[0]
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return error.code(), info.reason


def test_a_unary_call_passes(call: Callable[..., Any]) -> None:
    assert call("GetThing", {"thing_id": "g-1"}).thing.thing_id == "g-1"


def test_all_kinds_of_streams_pass(channel: grpc.Channel, schema: Schema) -> None:
    def words() -> Iterator[Any]:
        for word in ("warp", "weft"):
            yield schema.input("TalkThings")(word=word)

    talk = channel.stream_stream(
        f"/{INTERFACE}/TalkThings", lambda m: m.SerializeToString(), _parse(schema, "TalkThings")
    )
    assert [each.word for each in talk(words(), timeout=10)] == ["WARP", "WEFT"]
    watch = channel.unary_stream(
        f"/{INTERFACE}/WatchThings", lambda m: m.SerializeToString(), _parse(schema, "WatchThings")
    )
    assert len(list(watch(schema.input("WatchThings")(count=50), timeout=10))) == 50
    bring = channel.stream_unary(
        f"/{INTERFACE}/ImportThings", lambda m: m.SerializeToString(), _parse(schema, "ImportThings")
    )
    piece = schema.input("ImportThings")(content=b"x" * 500_000)
    assert bring(iter([piece] * 6), timeout=10).bytes == 3_000_000  # a stream has no bound in bytes


def _parse(schema: Schema, method: str) -> Callable[[bytes], Any]:
    parse: Callable[[bytes], Any] = schema.output(method).FromString  # type: ignore[attr-defined]
    return parse


def test_an_abandoned_stream_is_cancelled_at_the_service(
    edge: Edge, channel: grpc.Channel, schema: Schema
) -> None:
    edge.probe.cancelled.clear()
    watch = channel.unary_stream(
        f"/{INTERFACE}/WatchThings", lambda m: m.SerializeToString(), _parse(schema, "WatchThings")
    )
    stream = watch(schema.input("WatchThings")(count=10**9), timeout=30)
    next(stream)
    stream.cancel()
    assert edge.probe.cancelled.wait(10)


def test_a_services_refusal_arrives_with_its_details(call: Callable[..., Any]) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        call("FailThing", {"code": 9})
    status = rpc_status.from_call(caught.value)
    assert status is not None
    assert (status.code, status.message, len(status.details)) == (9, "refused as asked", 2)


def test_an_unknown_method_is_unimplemented(channel: grpc.Channel) -> None:
    for path in (f"/{INTERFACE}/Nothing", "/weft.nowhere.v1.NothingService/Get", f"/{INTERFACE}/InsideThing"):
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(path)(b"", timeout=10)
        assert refusal(caught.value) == (grpc.StatusCode.UNIMPLEMENTED, "UNKNOWN_ROUTE"), path


def test_an_oversize_message_is_refused(call: Callable[..., Any]) -> None:
    for method, size in (("CreateThing", 40_000), ("SuspendThing", 2 << 20)):
        big = {"thing": {"name": "x" * size}} if method == "CreateThing" else {"why": "x" * size}
        with pytest.raises(grpc.RpcError) as caught:
            call(method, big)
        assert refusal(caught.value) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERSIZE_REQUEST")


def test_a_methods_time_limit_ends_a_call_without_deadline(call: Callable[..., Any]) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        call("SleepThing", {"ms": 2000}, timeout=None)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED  # said by the edge or the service


def test_an_idempotent_call_is_tried_again(edge: Edge, call: Callable[..., Any]) -> None:
    assert call("RetryThing", {"key": "again", "failures": 2}).tries == 3


def test_a_call_that_is_not_idempotent_is_tried_once(edge: Edge, call: Callable[..., Any]) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        call("OnceThing", {"key": "once", "failures": 1})
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert edge.probe.asked["once"] == 1


def test_the_mesh_door_routes_internal_methods_and_keeps_their_headers(edge: Edge, schema: Schema) -> None:
    with grpc.insecure_channel(edge.target("mesh")) as channel:
        answer = caller(channel, schema)("InsideThing", metadata=[("x-weft-service", "billing")])
    assert answer.seen["x-weft-service"] == "billing"


def test_the_mesh_door_asks_for_no_token(edge: Edge, schema: Schema) -> None:
    with grpc.insecure_channel(edge.target("mesh")) as channel:
        assert caller(channel, schema)("ListThings", {"page_size": 2}).things


def test_calls_are_counted_by_service_and_method(edge: Edge, call: Callable[..., Any]) -> None:
    call("GetThing", {"thing_id": "counted"})
    line = 'grpc_method="GetThing"'

    def counted() -> bool:
        _, text = edge.get("stats", "/metrics")
        return any(line in each and f'grpc_service="{INTERFACE}"' in each for each in text.splitlines())

    until(counted, "the method's counters")
