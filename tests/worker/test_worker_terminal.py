"""What `weft jobs` does and shows: real queue, real worker; the sign-in alone is the laboratory's."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from scripts.jobs import __main__ as terminal, following, showing
from scripts.jobs.calling import Edge
from services.chassis.clock import uuid7
from services.chassis.host import Parts, Tools
from services.chassis.jobs.surroundings import surrounding
from services.chassis.testing import Lab, laboratory
from services.queue.app import build as queue
from services.worker.app import build as worker
from services.worker.process import Plan, working
from weft.jobs.v1.job_pb2 import EndReason, JobState
from weft.queue.v1.job_messages_pb2 import Job

pytestmark = pytest.mark.timeout(120)


class Signed(Edge):
    """An edge where the caller is signed in already."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab.channel, "", "")
        self._lab = lab

    async def who(self) -> Any:
        return self._lab.bearer()


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> StringIO:
    """What a person would see."""
    text = StringIO()
    monkeypatch.setattr(showing, "console", Console(file=text, width=160))
    monkeypatch.setattr(following, "LOOK_EVERY_S", 0.05)
    return text


@pytest.fixture
async def edge(postgres: str, nats_url: str) -> AsyncIterator[Edge]:
    """The mesh, with one worker."""

    def pools(tools: Tools) -> Parts:
        return worker(tools, {"WEFT_WORKER_LOCAL": "0"})

    builds = {"queue": queue, "worker": pools}
    async with laboratory(builds, postgres_url=postgres, nats_url=nats_url) as lab:
        settings = replace(lab.settings, mesh_address=f"127.0.0.1:{lab.hosted.port}")
        plan = Plan(modules=["tests.worker.handlers"], worker="w1", beat_s=0.1, drain_s=1.0)
        async with surrounding(settings, "worker") as around, working(plan, around):
            yield Signed(lab)


async def said(edge: Edge, *text: str) -> int:
    found = terminal.parser().parse_args(text)
    return await terminal.COMMANDS[found.command](edge, found)


async def test_jobs_from_the_terminal(edge: Edge, screen: StringIO) -> None:
    assert await said(edge, "run", "echo", '{"number": 41, "words": "hello"}', "--label", "tenant=acme") == 0
    assert json.loads(screen.getvalue().strip().splitlines()[-1]) == {"number": 42, "words": "hello 1"}
    assert await said(edge, "run", "echo", '{"number": "x"}') == 1
    assert "number: expected `int`, got `str`" in screen.getvalue()
    _clear(screen)
    assert await said(edge, "run", "wait", '{"number": 3600}', "--no-wait", "--delay", "3600") == 0
    [later] = screen.getvalue().split()
    _clear(screen)
    assert await said(edge, "list") == 0
    listed = screen.getvalue()
    assert [word for word in ("SUCCEEDED", "FAILED", "SCHEDULED") if word not in listed] == []
    assert later in listed
    _clear(screen)
    assert await said(edge, "list", "--label", "tenant=acme") == 0
    assert ("SUCCEEDED" in screen.getvalue(), "FAILED" in screen.getvalue()) == (True, False)
    assert await said(edge, "cancel", later) == 0
    assert "CANCELLED" in screen.getvalue()
    assert await said(edge, "cancel", str(uuid7()), later) == 1  # The one is unknown, the other as it was.
    assert "NOT_FOUND" in screen.getvalue()
    _clear(screen)
    assert await said(edge, "top", "--once") == 0
    shown = screen.getvalue()
    assert [word for word in ("queues", "default", "workers", "w1", "running") if word not in shown] == []


def _clear(screen: StringIO) -> None:
    screen.seek(0)
    screen.truncate()


@pytest.mark.parametrize(
    "wrong",
    [["run", "x", "{"], ["run", "x", "--label", "novalue"], ["list", "--state", "odd"], ["cancel"], []],
)
def test_words_that_make_no_sense_are_refused(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        terminal.parser().parse_args(wrong)
    assert "usage: weft jobs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("length_s", "shown"),
    [
        (0.0, "0 ms"),
        (0.35, "350 ms"),
        (4.21, "4.2 s"),
        (75, "75 s"),
        (600, "10 min"),
        (7300, "2 h"),
        (2e5, "2 d"),
    ],
)
def test_times_are_told_as_people_do(length_s: float, shown: str) -> None:
    assert showing.span(length_s) == shown


def test_a_failure_is_a_line_whatever_its_words_are(screen: StringIO) -> None:
    job = Job(state=JobState.JOB_STATE_FAILED, reason=EndReason.END_REASON_RAISED)
    job.failure.kind, job.failure.message = "ValueError", "[bold]first[/]\nsecond " + "x" * 500
    showing.console.print(showing.jobs([job]))
    head, line = screen.getvalue().strip().splitlines()
    assert head.split()[:2] == ["job", "queue"]
    assert "raised: ValueError [bold]first[/] second" in line
