"""What a caller sees of the four kinds of rpc is the same on every engine."""

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from prometheus_client import REGISTRY

from services.chassis.testing import Lab, broken_fields, reason, status_of, until


@pytest.fixture
def stub(lab: Lab) -> Any:
    from conformance.v1.echo_pb2_grpc import EchoServiceStub

    return EchoServiceStub(lab.channel)


@pytest.fixture
def pb(echo: Any) -> Any:
    return echo.pb


async def test_unary_answers_text_of_any_script(stub: Any, pb: Any) -> None:
    for text in ("", "a", "прямо", "日本語 \U0001f9f5", "\u202e\u0000x"):
        assert (await stub.Unary(pb.Ask(text=text))).text == text


async def test_server_stream_keeps_order_and_count(stub: Any, pb: Any) -> None:
    answers = [answer.index async for answer in stub.ServerStream(pb.Ask(count=5_000))]
    assert answers == list(range(5_000))


async def test_an_empty_stream_ends_ok(stub: Any, pb: Any) -> None:
    assert [answer async for answer in stub.ServerStream(pb.Ask(count=0))] == []


async def test_client_stream_sees_every_request(stub: Any, pb: Any) -> None:
    answer = await stub.ClientStream(pb.Ask(text=str(n)) for n in range(1_000))
    assert (answer.index, answer.text) == (1_000, ",".join(map(str, range(1_000))))


async def test_bidi_answers_before_the_caller_is_done(stub: Any, pb: Any) -> None:
    call = stub.Bidi()
    for n in range(100):
        await call.write(pb.Ask(text=str(n)))
        assert (await call.read()).text == str(n)
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF


async def test_messages_near_the_bound_pass_and_larger_ones_are_refused(stub: Any, pb: Any) -> None:
    answer = await stub.Unary(pb.Ask(padding=4_000_000))
    assert len(answer.padding) == 4_000_000
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await stub.Unary(pb.Ask(padding=8_000_000))
    assert error.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_64_calls_at_once_get_their_own_answers(stub: Any, pb: Any) -> None:
    answers = await asyncio.gather(*(stub.Unary(pb.Ask(text=str(n))) for n in range(64)))
    assert [answer.text for answer in answers] == [str(n) for n in range(64)]


async def test_metadata_goes_both_ways_binary_too(stub: Any, pb: Any) -> None:
    metadata = (("x-ask", "plain"), ("x-ask-bin", b"\x00\xff"))
    call = stub.Unary(pb.Ask(trailer="t"), metadata=metadata)
    answer = await call
    assert dict(answer.metadata) == {"x-ask": "plain", "x-ask-bin": "00ff"}
    assert ("x-initial", "t") in tuple(await call.initial_metadata())
    trailers = tuple(await call.trailing_metadata())
    assert ("x-trailer", "t") in trailers
    assert ("x-trailer-bin", b"\0\xff") in trailers


async def test_a_refusal_carries_reason_facts_and_trailers(stub: Any, pb: Any) -> None:
    call = stub.Unary(pb.Ask(ending=pb.ENDING_REFUSE, count=3, trailer="kept"))
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    assert error.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert error.value.details() == "The caller asked for a refusal after 3 answers."
    assert reason(error.value) == "ASKED_FOR"
    assert ("x-trailer", "kept") in tuple(await call.trailing_metadata())


async def test_a_stream_may_end_with_a_refusal_after_answers(stub: Any, pb: Any) -> None:
    call = stub.ServerStream(pb.Ask(count=3, ending=pb.ENDING_REFUSE))
    assert [(await call.read()).index for _ in range(3)] == [0, 1, 2]
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call.read()
    assert reason(error.value) == "ASKED_FOR"


async def test_a_bug_is_internal_and_tells_nothing(stub: Any, pb: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await stub.Unary(pb.Ask(ending=pb.ENDING_CRASH))
    assert error.value.code() == grpc.StatusCode.INTERNAL
    assert reason(error.value) == "INTERNAL"
    assert "secret" not in str(status_of(error.value))


async def test_the_deadline_reaches_the_handler_and_ends_it(stub: Any, pb: Any) -> None:
    answer = await stub.Unary(pb.Ask(), timeout=5)
    assert 4 < answer.remaining.ToMilliseconds() / 1000 < 5.1  # grpc-timeout is rounded up.
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await stub.Unary(pb.Ask(delay=Duration(seconds=30)), timeout=0.2)
    assert error.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    await until(_idle)


async def test_a_cancelled_call_cancels_its_handler(stub: Any, pb: Any) -> None:
    call = asyncio.ensure_future(_awaited(stub.Unary(pb.Ask(delay=Duration(seconds=30)))))
    await until(_busy)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await until(_idle)


async def test_a_stream_left_half_read_ends_its_handler(stub: Any, pb: Any) -> None:
    call = stub.ServerStream(pb.Ask(count=100_000, padding=1_000))
    await call.read()
    call.cancel()
    await until(_idle)


async def test_an_unknown_method_is_unimplemented(lab: Lab) -> None:
    call = lab.channel.unary_unary("/weft.conformance.v1.EchoService/Nope")
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call(b"")
    assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED


async def test_a_request_that_is_no_message_is_refused_and_the_next_works(
    stub: Any, pb: Any, lab: Lab
) -> None:
    call = lab.channel.unary_unary("/weft.conformance.v1.EchoService/Unary")
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call(b"\xff\xff\xff")
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert reason(error.value) == "UNDECODABLE"
    assert (await stub.Unary(pb.Ask(text="next"))).text == "next"


async def test_validation_names_each_field_in_every_kind(stub: Any, pb: Any) -> None:
    bad = pb.Ask(count=-1, padding=-1)
    for call in (
        lambda: stub.Unary(bad),
        lambda: stub.ServerStream(bad).read(),
        lambda: stub.ClientStream(iter([bad])),
        lambda: stub.Bidi(iter([bad])).read(),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await call()
        assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert set(broken_fields(error.value)) == {"count", "padding"}


async def _awaited(call: Any) -> Any:
    return await call


async def _busy() -> bool:
    return _in_flight() == 1


async def _idle() -> bool:
    """Whether no call is being answered."""
    return _in_flight() == 0


def _in_flight() -> float:
    return REGISTRY.get_sample_value("weft_rpc_in_flight") or 0.0
