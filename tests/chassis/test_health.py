"""What readiness makes of checks that fail, and of checks that are late."""

import asyncio

import pytest

from services.chassis import health
from services.chassis.health import Readiness


class Dependency:
    """A check that passes, fails or does not come back."""

    def __init__(self) -> None:
        self.mood = "well"

    async def check(self) -> None:
        if self.mood == "away":
            raise ConnectionError
        if self.mood == "busy":
            await asyncio.sleep(60)


@pytest.fixture
def dependency() -> Dependency:
    return Dependency()


@pytest.fixture
async def readiness(dependency: Dependency, monkeypatch: pytest.MonkeyPatch) -> Readiness:
    monkeypatch.setattr(health, "CHECK_S_MAX", 0.01)
    readiness = Readiness()
    readiness.add("shop", [], {"database": dependency.check})
    await readiness.round()
    return readiness


async def moods(readiness: Readiness, dependency: Dependency, *moods: str) -> list[str]:
    """What keeps calls away after a round in each of `moods`."""
    seen = []
    for mood in moods:
        dependency.mood = mood
        await readiness.round()
        seen.append(readiness.failing.get("shop", ""))
    return seen


async def test_check_that_fails_takes_the_service_away_at_once(
    readiness: Readiness, dependency: Dependency
) -> None:
    seen = await moods(readiness, dependency, "well", "away", "well")
    assert seen == ["", "database: ConnectionError", ""]


async def test_check_that_is_late_is_forgiven_once(readiness: Readiness, dependency: Dependency) -> None:
    seen = await moods(readiness, dependency, "busy", "busy", "well", "busy", "well")
    assert seen == ["", "database: TimeoutError", "", "", ""]


async def test_service_that_is_away_is_not_brought_back_by_a_late_check(
    readiness: Readiness, dependency: Dependency
) -> None:
    assert await moods(readiness, dependency, "away", "busy") == ["database: ConnectionError"] * 2
