"""The press: a process that may die, hang or be asked too much, and takes nobody with it."""

import asyncio

import psutil
import pytest

from services.billing.documents import pressing
from services.billing.documents.orders import Make
from services.billing.documents.page import Style
from services.billing.documents.pressing import Press, PressBroke
from services.billing.domain.document import DocumentsBusy
from services.chassis.testing import until
from tests.billing.documents.papers import paper

ORDER = Make(document=paper(), style=Style())


async def test_a_press_that_was_killed_is_followed_by_another(press: Press) -> None:
    first = await press.make(ORDER)
    assert press._process
    press._process.kill()
    await press._process.wait()
    assert (await press.make(ORDER)).content == first.content


async def test_a_press_that_dies_in_the_middle_breaks_one_document(press: Press) -> None:
    await press.make(ORDER)
    assert press._process
    psutil.Process(press._process.pid).suspend()
    making = asyncio.create_task(press.make(ORDER))
    while not press._waiting:  # noqa: ASYNC110 - the task sets it without telling
        await asyncio.sleep(0)
    press._process.kill()
    with pytest.raises(PressBroke):
        await making
    assert (await press.make(ORDER)).content


async def test_a_press_that_hangs_is_ended_after_its_time() -> None:
    press = Press(time_s_max=0.05)
    process = await press._running()
    psutil.Process(process.pid).suspend()
    with pytest.raises(PressBroke, match="TimeoutError"):
        await press.make(ORDER)
    assert process.returncode is not None
    assert press._process is None


async def test_an_order_that_is_given_up_leaves_no_answer_for_the_next(press: Press) -> None:
    await press.make(ORDER)
    assert press._process
    psutil.Process(press._process.pid).suspend()
    making = asyncio.create_task(press.make(ORDER))
    while not press._waiting:  # noqa: ASYNC110 - the task sets it without telling
        await asyncio.sleep(0)
    making.cancel()
    with pytest.raises(asyncio.CancelledError):
        await making
    report = await press.check(b"<html/>")
    assert "html" in report.unreadable


async def test_more_than_can_wait_are_refused(press: Press, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pressing, "WAITING_MAX", 2)
    asked = await asyncio.gather(*(press.make(ORDER) for _ in range(5)), return_exceptions=True)
    assert [type(answer).__name__ for answer in asked].count("DocumentsBusy") == 3
    assert DocumentsBusy.reason() == "DOCUMENTS_BUSY"


async def test_a_press_that_nobody_needs_leaves() -> None:
    press = Press(idle_s_max=0.01)
    await press.make(ORDER)
    process = press._process

    async def gone() -> bool:
        return press._process is None

    await until(gone)
    assert process
    assert await process.wait() == 0
    assert (await press.make(ORDER)).content
    await press.stop()


async def test_a_press_knows_nothing_of_its_parents_environment(
    press: Press, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEFT_MESH_KEY", "secret")
    process = await Press()._running()
    try:
        assert set(psutil.Process(process.pid).environ()) <= {"PATH", "PYTHONPATH", "LC_CTYPE"}
    finally:
        assert process.stdin
        process.stdin.close()
        await process.wait()
