"""nghttp2's tools and buf's curl against our server."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from grpc_reflection.v1alpha import reflection

from services.chassis.wire.server import Server
from tests.wire import octets as o
from tests.wire.conftest import Stubs
from tests.wire.peers_servers import Asynchronous

PATH = "/peers.v1.EchoService"
KINDS = ["Unary", "ServerStream", "ClientStream", "Bidi"]
TOOL_S = 20.0  # For a tool to be done; each needs well below a second.


@pytest.fixture(scope="module")
async def port(stubs: Stubs) -> AsyncIterator[int]:
    server = Server()
    stubs.grpcio.add_EchoServiceServicer_to_server(Asynchronous(stubs), server)
    reflection.enable_server_reflection(("peers.v1.EchoService", reflection.SERVICE_NAME), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(1.0)


def tool(name: str) -> str:
    """Its path; skips where the machine has none."""
    found = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
    if found is None:
        pytest.skip(f"{name} is not on this machine")
    return found


async def run(*command: str, given: bytes = b"") -> tuple[int, str]:
    """Exit code and all output."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *command, stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await asyncio.wait_for(process.communicate(given), TOOL_S)
    return process.returncode or 0, out.decode(errors="replace")


@pytest.fixture
def body(stubs: Stubs, tmp_path: Path) -> Path:
    """A file with two messages for streams, and one with a single message beside it."""
    ask = stubs.pb.Ask(text="nghttp", count=3).SerializeToString()  # type: ignore[attr-defined]
    (tmp_path / "one").write_bytes(o.message(ask))
    (tmp_path / "two").write_bytes(o.message(ask) * 2)
    return tmp_path


GRPC = ["-Hcontent-type: application/grpc", "-Hte: trailers"]


@pytest.mark.parametrize("rpc", KINDS)
async def test_nghttp_sees_a_whole_answer(port: int, body: Path, rpc: str) -> None:
    file = body / ("two" if rpc in ("ClientStream", "Bidi") else "one")
    url = f"http://127.0.0.1:{port}{PATH}/{rpc}"
    code, out = await run(tool("nghttp"), "-v", "-d", str(file), *GRPC, url)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", out)
    assert code == 0
    assert re.search(r"recv .*:status: 200", plain)
    assert re.search(r"recv .*grpc-status: 0", plain)
    assert plain.count("nghttp") >= {"Unary": 1, "ServerStream": 3, "ClientStream": 1, "Bidi": 2}[rpc]
    assert not re.search(r"recv (RST_STREAM|GOAWAY)", plain)


@pytest.mark.parametrize("rpc", KINDS)
async def test_h2load_gets_every_answer(port: int, body: Path, rpc: str) -> None:
    file = body / ("two" if rpc in ("ClientStream", "Bidi") else "one")
    url = f"http://127.0.0.1:{port}{PATH}/{rpc}"
    load = ["-n2000", "-c4", "-m20", "-t1", f"-d{file}"]
    code, out = await run(tool("h2load"), *load, *GRPC, url)
    assert code == 0
    assert "2000 succeeded, 0 failed, 0 errored, 0 timeout" in out
    assert "status codes: 2000 2xx" in out


@pytest.mark.parametrize("reflected", [False, True], ids=["by the descriptor", "by reflection"])
@pytest.mark.parametrize("rpc", KINDS)
async def test_buf_curl_speaks_grpc_with_us(port: int, stubs: Stubs, rpc: str, reflected: bool) -> None:
    asks = [{"text": str(n), "count": 2} for n in range(3 if rpc in ("ClientStream", "Bidi") else 1)]
    schema = [] if reflected else ["--schema", str(stubs.descriptor)]
    command = ["curl", *schema, "--protocol", "grpc", "--http2-prior-knowledge", "-d", "@-"]
    given = "\n".join(map(json.dumps, asks)).encode()
    code, out = await run(tool("buf"), *command, f"http://127.0.0.1:{port}{PATH}/{rpc}", given=given)
    assert code == 0, out
    found: list[Any] = [json.loads(part) for part in re.split(r"(?<=})\s*(?={)", out.strip())]
    expected = {
        "Unary": [{"text": "0"}],
        "ServerStream": [{"text": "0"}, {"text": "0", "index": 1}],
        "ClientStream": [{"text": "0,1,2", "index": 3}],
        "Bidi": [{"text": "0"}, {"text": "1", "index": 1}, {"text": "2", "index": 2}],
    }
    assert found == expected[rpc]


async def test_buf_curl_sees_a_refusal(port: int, stubs: Stubs) -> None:
    command = ["curl", "--schema", str(stubs.descriptor), "--protocol", "grpc", "--http2-prior-knowledge"]
    url = f"http://127.0.0.1:{port}{PATH}/Unary"
    code, out = await run(tool("buf"), *command, "-d", '{"code": 9, "text": "50 % of"}', url)
    assert code != 0
    told = json.loads(out)
    assert (told["code"], told["message"]) == ("failed_precondition", "50 % of")
