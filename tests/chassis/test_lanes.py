"""One after the other within a key, side by side between keys, and never more than there is room for."""

import asyncio

import pytest

from services.chassis.lanes import Lanes


async def test_items_of_a_key_are_done_in_order_and_keys_side_by_side() -> None:
    done: list[str] = []
    gates = {item: asyncio.Event() for item in ("a1", "a2", "b1")}

    async def work(item: str) -> None:
        await gates[item].wait()
        done.append(item)

    lanes = Lanes(work, room=10)
    for item in gates:
        await lanes.put(item[0], item)
    gates["a2"].set()
    gates["b1"].set()
    await asyncio.sleep(0.01)
    assert done == ["b1"]
    gates["a1"].set()
    await lanes.idle()
    assert done == ["b1", "a1", "a2"]


async def test_putting_waits_for_room() -> None:
    gate = asyncio.Event()

    async def work(item: int) -> None:
        await gate.wait()

    lanes = Lanes(work, room=2)
    await lanes.put("a", 1)
    await lanes.put("b", 2)
    third = asyncio.create_task(lanes.put("c", 3))
    await asyncio.sleep(0.01)
    assert not third.done()
    assert sorted(lanes) == [1, 2]
    gate.set()
    await third
    await lanes.idle()
    assert len(lanes) == 0


async def test_a_failure_reaches_whoever_puts_next() -> None:
    async def work(item: int) -> None:
        raise ZeroDivisionError

    lanes = Lanes(work, room=1)
    await lanes.put("a", 1)
    with pytest.raises(ZeroDivisionError):
        await lanes.put("a", 2)
    with pytest.raises(ZeroDivisionError):
        await lanes.idle()
