"""Links that are slowed, made lossy and cut: what is held comes later, whole and in order, and by itself."""

import asyncio
import json
import random
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
from hypothesis import given, settings, strategies as st

from launcher import forwarding, links, roster
from launcher.forwarding import Board, Fault, listen, wait_s
from launcher.paths import Home
from launcher.ports import Ports
from tests.chassis.waiting import until
from tests.launcher.conftest import Mesh

FAR = time.monotonic() + 100_000
BOUND_S = 30.0


@asynccontextmanager
async def echoing(board: Board) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection over the link `here-there` to who says everything again."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
        writer.close()

    there = await asyncio.start_server(echo, "127.0.0.1", 0)
    link = await listen("here-there", ("127.0.0.1", 0), there.sockets[0].getsockname()[:2], board)
    reader, writer = await asyncio.open_connection(*link.sockets[0].getsockname()[:2])
    try:
        yield reader, writer
    finally:
        writer.close()
        await writer.wait_closed()
        for server in (link, there):
            server.close()
        await asyncio.sleep(0)


async def test_what_goes_over_a_link_arrives_whole_and_in_order_however_it_is_held(tmp_path: Path) -> None:
    chance = random.Random(1)
    faults = [Fault(frozenset({"here-there"}), FAR, delay_ms=3, jitter_ms=3, share=0.0005)]
    board = Board(tmp_path / "none", chance=chance, faults=faults)
    async with echoing(board) as (reader, writer):
        sent = bytes(chance.getrandbits(8) for _ in range(200_000))
        for first in range(0, len(sent), 7_919):
            writer.write(sent[first : first + 7_919])
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(-1), BOUND_S) == sent


async def test_what_a_cut_holds_back_is_passed_on_when_it_heals(tmp_path: Path) -> None:
    file = tmp_path / "links.json"
    board = Board(file)
    following = asyncio.create_task(board.follow())
    async with echoing(board) as (reader, writer):
        cut = {"links": ["here-there"], "until": FAR, "cut": True}
        file.write_text(json.dumps({"faults": [cut]}))
        await until(lambda: bool(board.of("here-there")))
        writer.write(b"held\n")
        waiting = asyncio.create_task(reader.readline())
        for _ in range(50):
            await asyncio.sleep(0)
        assert not waiting.done()
        file.unlink()
        assert await asyncio.wait_for(waiting, BOUND_S) == b"held\n"
    following.cancel()


def test_a_fault_is_of_its_links_alone_and_ends_though_nobody_ends_it(tmp_path: Path) -> None:
    now = [10.0]
    board = Board(tmp_path / "links.json", now=lambda: now[0])
    board.file.write_text(json.dumps({"faults": [{"links": ["a-nats"], "until": 12.0, "cut": True}]}))
    board.look()
    assert [fault.cut for fault in board.of("a-nats")] == [True]
    assert board.of("b-nats") == []
    now[0] = 12.0
    assert board.of("a-nats") == []


@pytest.mark.parametrize("text", ["", "{", "[]", '{"faults": [{"until": 3}]}', '{"faults": [{"x": 1}]}'])
def test_a_file_that_cannot_be_read_does_nothing(text: str) -> None:
    assert forwarding.read(text) == []


@settings(max_examples=40)
@given(st.floats(0, 5_000), st.floats(0, 5_000), st.floats(0, 0.5), st.integers(0, 16_384), st.integers())
def test_a_chunk_is_held_for_the_delay_and_for_each_repetition_of_what_is_lost(
    delay_ms: float, jitter_ms: float, share: float, size: int, seed: int
) -> None:
    fault = Fault(frozenset("x"), FAR, delay_ms=delay_ms, jitter_ms=jitter_ms, share=share)
    held = wait_s([fault], size, random.Random(seed))
    segments = -(-size // forwarding.SEGMENT_BYTES)
    longest = forwarding.REPEAT_S * (2**forwarding.REPEATS_MAX - 1) * segments if share else 0
    assert (
        max(0, delay_ms - jitter_ms) / 1_000 - 1e-9 <= held <= (delay_ms + jitter_ms) / 1_000 + longest + 1e-9
    )


def test_a_process_meets_its_servers_and_the_edge_by_an_address_of_its_own(tmp_path: Path) -> None:
    ports = Ports()
    groups = roster.groups(["alpha", "beta"], 2, ports)
    told = {
        "WEFT_NATS_URL": f"nats://weft:x@127.0.0.1:{ports.nats}",
        "WEFT_DATABASE_URL_BETA": f"postgresql://beta:x@127.0.0.1:{ports.postgres}/beta",
        "WEFT_MESH_ADDRESS": f"127.0.0.1:{ports.mesh}",
        "WEFT_ADDRESS": f"127.0.0.1:{groups[1].port}",
        "WEFT_OTHER": f"127.0.0.1:{ports.nats}0",
        "OTHER": f"127.0.0.1:{ports.nats}",
    }
    moved = links.environment(told, 1, ports)
    assert {name for name in told if moved[name] != told[name]} == {
        "WEFT_NATS_URL",
        "WEFT_DATABASE_URL_BETA",
        "WEFT_MESH_ADDRESS",
    }
    every = {link.name: (link.host, link.port) for link in links.every(groups, ports)}
    assert every["beta-nats"] == ("127.0.1.2", ports.nats)
    assert moved["WEFT_NATS_URL"].endswith("@127.0.1.2:{}".format(every["beta-nats"][1]))
    edge = links.from_the_edge(groups)[1]
    assert every["beta-edge"] == (edge.host, edge.port)
    assert [group.host for group in groups] == ["127.0.0.1"] * 2
    assert not links.chosen({})
    assert links.chosen({"WEFT_CHAOS": "1"})
    assert links.faults(Home(tmp_path)).parent == links.clock(Home(tmp_path), "beta").parent


def test_a_mesh_with_links_comes_up_and_its_processes_use_them(mesh: Mesh) -> None:
    mesh.extra = {"WEFT_CHAOS": "1"}
    mesh.up("--processes", "2")
    assert mesh.weft("status").returncode == 0
    environ = psutil.Process(mesh.pid("beta")).environ()
    host, _, port = environ["WEFT_NATS_URL"].rpartition("@")[2].partition(":")
    assert host == "127.0.1.2"
    with socket.create_connection((host, int(port)), timeout=BOUND_S) as link:
        assert link.recv(5) == b"INFO "
    assert environ["WEFT_CLOCK_FILE"] == str(links.clock(Home(mesh.home), "beta"))
