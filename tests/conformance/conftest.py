"""The echo service on each engine; every test of this folder runs once per engine."""

import importlib
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from grpc_tools import protoc

from services.chassis.testing import Lab, laboratory
from tests.servers import Shared

HERE = Path(__file__).parent
IMAGE = HERE.parents[1] / "gen" / "envoy" / "weft.binpb"  # All that test protos may import.
ENGINES = ["aio", "wire"]


@pytest.fixture(scope="session")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """The echo service's module, its stubs generated for this run."""
    out = tmp_path_factory.mktemp("stubs")
    arguments = [f"-I{HERE / 'protos'}", f"--descriptor_set_in={IMAGE}"]
    outputs = [f"--python_out={out}", f"--grpc_python_out={out}"]
    assert protoc.main(["protoc", *arguments, *outputs, "conformance/v1/echo.proto"]) == 0
    sys.path[:0] = [str(out), str(HERE)]
    yield importlib.import_module("echo")
    for path in (str(out), str(HERE)):
        sys.path.remove(path)


@pytest.fixture(params=ENGINES, scope="module")
def engine(request: pytest.FixtureRequest) -> str:
    """Name of the engine under test."""
    return str(request.param)


@pytest.fixture(scope="module")
async def lab(engine: str, echo: ModuleType, servers: Shared) -> AsyncIterator[Lab]:
    settings = {"engine": engine}
    urls = {"postgres_url": servers.postgres(), "nats_url": servers.account()}
    async with laboratory({"echo": echo.build}, **urls, settings=settings) as lab:
        yield lab
