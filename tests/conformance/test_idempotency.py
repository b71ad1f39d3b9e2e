"""An idempotency key: one effect for any number of calls, the first answer for each of them."""

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from services.chassis.clock import uuid7
from services.chassis.testing import Lab, reason


@pytest.fixture
def stub(lab: Lab) -> Any:
    from conformance.v1.echo_pb2_grpc import EchoServiceStub

    return EchoServiceStub(lab.channel)


def keyed() -> tuple[tuple[str, str]]:
    return (("idempotency-key", str(uuid7())),)


async def marks(lab: Lab) -> int:
    return int(await lab.db("echo").fetchval("select count(*) from mark"))


async def outcome(call: Any) -> str:
    """The answer's text, or the refusal's reason."""
    try:
        return str((await call).text)
    except grpc.aio.AioRpcError as error:
        return reason(error)


async def test_64_calls_at_once_take_effect_once_and_answer_alike(stub: Any, echo: Any, lab: Lab) -> None:
    before, key = await marks(lab), keyed()
    ask = echo.pb.Ask(mark=True, text="first")
    answers = await asyncio.gather(*(outcome(stub.Unary(ask, metadata=key)) for _ in range(64)))
    assert await marks(lab) == before + 1
    assert set(answers) <= {"first", "OUTCOME_UNKNOWN"}
    assert await outcome(stub.Unary(ask, metadata=key)) == "first"


async def test_without_a_key_each_call_takes_effect(stub: Any, echo: Any, lab: Lab) -> None:
    before = await marks(lab)
    for _ in range(2):
        await stub.Unary(echo.pb.Ask(mark=True))
    assert await marks(lab) == before + 2


async def test_a_key_with_another_request_is_refused(stub: Any, echo: Any) -> None:
    key = keyed()
    assert await outcome(stub.Unary(echo.pb.Ask(mark=True, text="a"), metadata=key)) == "a"
    again = stub.Unary(echo.pb.Ask(mark=True, text="b"), metadata=key)
    assert await outcome(again) == "IDEMPOTENCY_KEY_REUSED"


async def test_a_refusal_after_the_effect_is_given_again(stub: Any, echo: Any, lab: Lab) -> None:
    before, key = await marks(lab), keyed()
    ask = echo.pb.Ask(mark=True, ending=echo.pb.ENDING_REFUSE)
    assert [await outcome(stub.Unary(ask, metadata=key)) for _ in range(3)] == ["ASKED_FOR"] * 3
    assert await marks(lab) == before + 1


async def test_a_call_cut_off_after_its_effect_is_not_repeated(stub: Any, echo: Any, lab: Lab) -> None:
    before, key = await marks(lab), keyed()
    ask = echo.pb.Ask(mark=True, delay=Duration(seconds=20))
    with pytest.raises(grpc.aio.AioRpcError):
        await stub.Unary(ask, metadata=key, timeout=0.5)
    assert await outcome(stub.Unary(ask, metadata=key, timeout=5)) == "OUTCOME_UNKNOWN"
    assert await marks(lab) == before + 1


async def test_callers_do_not_share_keys(stub: Any, echo: Any, lab: Lab) -> None:
    before, key = await marks(lab), keyed()
    for subject in ("anna", "boris"):
        await stub.Unary(echo.pb.Ask(mark=True), metadata=(*key, *lab.bearer(subject)))
    assert await marks(lab) == before + 2


async def test_a_key_that_is_too_long_is_refused_by_name(stub: Any, echo: Any) -> None:
    key = (("idempotency-key", "k" * 256),)
    assert await outcome(stub.Unary(echo.pb.Ask(mark=True), metadata=key)) == "IDEMPOTENCY_KEY_TOO_LONG"
