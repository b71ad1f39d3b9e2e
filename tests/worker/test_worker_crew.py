"""Which local workers are started, let go and killed: decided without any process."""

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest

from services.chassis.config import BadSetting, load
from services.worker import crew as crew_module, directory as directory_module
from services.worker.crew import Crews, kind_of
from services.worker.directory import ALIVE_S, Directory
from services.worker.domain import State
from services.worker.pack import in_force, settings_to_json
from services.worker.settings import WorkerSettings
from weft.worker.v1.worker_pb2 import PoolSettings, Worker


class Hand:
    """A local worker that is none."""

    made: list["Hand"]

    def __init__(self, pool: str, settings: PoolSettings, kind: str, own: WorkerSettings) -> None:
        self.pool, self.kind, self.slots = pool, kind, settings.slots
        self.worker = f"{pool}-{len(self.made)}"
        self.began, self.leaving_at = time.monotonic(), None
        self.killed = False
        self.task: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.made.append(self)

    def leave(self) -> None:
        self.leaving_at = self.leaving_at or time.monotonic()  # type: ignore[assignment]

    check = crew_module._Hand.check

    def kill(self) -> None:
        self.killed = True

    _own = WorkerSettings()


class Scene:
    """A pool, its crew, and what is heard of workers."""

    def __init__(self) -> None:
        Hand.made = []
        self.directory = Directory(None)  # type: ignore[arg-type]
        self.crews = Crews(None, self.directory, WorkerSettings())  # type: ignore[arg-type]

    def keep(self, wanted: int, **settings: Any) -> list[Hand]:
        """One look; those that are to stay."""
        whole = in_force(PoolSettings(queues=["q"], modules=["m"], **settings))
        pool = SimpleNamespace(
            pool="p", settings=settings_to_json(whole), state=State.ACTIVE, workers_wanted=wanted
        )
        self.crews.keep([pool] if wanted >= 0 else [])  # type: ignore[list-item]
        return [hand for hand in Hand.made if hand.leaving_at is None and not hand.task.done()]

    def heard(self, hand: Hand, running: int = 0, ago_s: float = 0.0) -> None:
        beat = Worker(worker=hand.worker, pool=hand.pool, running=running)
        self.directory._known[hand.worker] = (time.monotonic() - ago_s, beat)


@pytest.fixture
async def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setattr(crew_module, "_Hand", Hand)
    return Scene()


async def test_as_many_as_are_wanted_and_the_least_busy_go_first(scene: Scene) -> None:
    one, two, three = scene.keep(3)
    for hand, running in ((one, 5), (two, 0), (three, 2)):
        scene.heard(hand, running)
    assert scene.keep(3) == [one, two, three]
    assert scene.keep(1) == [one]
    assert scene.keep(-1) == []  # Its pool was deleted.


async def test_others_of_another_kind_go_when_the_new_are_there(scene: Scene) -> None:
    [old] = scene.keep(1)
    scene.heard(old)
    assert len(scene.keep(1, threads=3)) == 2
    new = Hand.made[-1]
    assert len(scene.keep(1, threads=3)) == 2
    scene.heard(new)
    assert scene.keep(1, threads=3) == [new]
    assert kind_of(PoolSettings(slots=1)) == kind_of(PoolSettings(slots=2))


async def test_who_dies_young_is_started_later_and_later(scene: Scene) -> None:
    waits = []
    for _ in range(3):
        scene.crews._not_before.clear()
        [hand] = scene.keep(1)
        hand.task.set_result(-9)
        assert scene.keep(1) == []
        waits.append(scene.crews._not_before["p"] - time.monotonic())
    assert waits == sorted(waits)
    assert waits[-1] == pytest.approx(4 * crew_module.BACKOFF_S, abs=0.2)


async def test_who_gives_no_sign_is_killed_in_time_and_not_before(scene: Scene) -> None:
    [hand] = scene.keep(1)
    for quiet_s, killed in ((1, False), (ALIVE_S + 5, False), (29, False), (31, True)):
        scene.heard(hand, ago_s=quiet_s)
        scene.directory._tidy()
        scene.keep(1)
        assert hand.killed == killed
    assert scene.directory.workers() == []  # It is not shown as one that works.


async def test_who_never_gives_a_sign_or_does_not_leave_is_killed(scene: Scene) -> None:
    silent, stays = scene.keep(2)
    silent.began -= crew_module.START_S_MAX + 1
    scene.heard(stays)
    stays.leaving_at = time.monotonic() - 8.0 - crew_module.KILL_AFTER_S - 1  # type: ignore[assignment]
    scene.keep(2)
    assert (silent.killed, stays.killed) == (True, True)


async def test_a_machine_takes_only_so_many(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew_module, "LOCAL_MAX", 2)
    assert len(scene.keep(5)) == 2


def test_what_is_forgotten_before_it_is_judged_is_refused() -> None:
    assert WorkerSettings().hung_s < directory_module.FORGET_S
    for wrong in ("5", "241"):
        with pytest.raises(BadSetting, match="WEFT_WORKER_HUNG_S"):
            load(WorkerSettings, {"WEFT_WORKER_HUNG_S": wrong}, prefix="WEFT_WORKER_")
