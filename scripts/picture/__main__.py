"""The words after `scripts/weft mesh`."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from argparse import ArgumentParser, Namespace
from typing import Any

import grpc.aio
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToJson
from rich.console import Console
from rich.live import Live

from scripts.picture import drawing
from services.chassis.caller import OPERATOR, SERVICE_HEADER, Signer
from services.chassis.clock import Clock
from weft.registry.v1.graph_pb2 import GetGraphRequest, GetGraphResponse
from weft.registry.v1.graph_pb2_grpc import GraphServiceStub

CALL_S_MAX = 15.0  # Beyond the window: two rounds of readings, each of which waits a second for the silent.
WIDE = 200  # Where nobody looks nothing is cut off.


def parser() -> ArgumentParser:
    whole = ArgumentParser(prog="weft mesh", description="Services, their instances, and who calls whom.")
    whole.add_argument("--watch", action="store_true", help="draw it anew until Ctrl-C")
    whole.add_argument(
        "--window", type=int, default=2, metavar="S", help="seconds measured, 1 to 30 (default 2)"
    )
    whole.add_argument("--json", action="store_true", help="for programs: what GetGraph answers")
    return whole


async def ask(stub: Any, window_s: int) -> GetGraphResponse:
    """Of the process itself, as its operator: it answers without the edge, too. Raises AioRpcError."""
    token = Signer(OPERATOR, os.environ["WEFT_MESH_KEY"], Clock()).token()
    request = GetGraphRequest(window=Duration(seconds=window_s))
    graph: GetGraphResponse = await stub.GetGraph(
        request, metadata=((SERVICE_HEADER, token),), timeout=window_s + CALL_S_MAX
    )
    return graph


async def main(words: Namespace) -> int:
    console = Console() if sys.stdout.isatty() else Console(width=WIDE)
    async with grpc.aio.insecure_channel(os.environ["WEFT_REGISTRY_TARGET"]) as channel:
        stub = GraphServiceStub(channel)
        if words.watch and console.is_terminal and not words.json:
            await _watch(stub, words.window, console)
        try:
            graph = await ask(stub, words.window)
        except grpc.aio.AioRpcError as error:
            console.print(drawing.silent(error.code().name, error.details() or ""))
            return 1
    console.print(
        MessageToJson(graph) if words.json else drawing.drawn(graph, time.time()), soft_wrap=words.json
    )
    return 0


async def _watch(stub: Any, window_s: int, console: Console) -> None:
    """Until Ctrl-C; a registry that is away is said, and waited for."""
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            try:
                seen = drawing.drawn(await ask(stub, window_s), time.time())
            except grpc.aio.AioRpcError as error:
                seen = drawing.silent(error.code().name, error.details() or "")
                await asyncio.sleep(window_s)
            live.update(seen, refresh=True)


if __name__ == "__main__":
    given = parser()
    chosen = given.parse_args()
    if not 1 <= chosen.window <= 30:
        given.error("--window must be 1 to 30")
    try:
        sys.exit(asyncio.run(main(chosen)))
    except KeyboardInterrupt:
        sys.exit(130)
