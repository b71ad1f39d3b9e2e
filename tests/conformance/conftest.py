"""The echo service on each engine; every test of this folder runs once per engine."""

import importlib
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from grpc_tools import protoc

from services.chassis.testing import Lab, laboratory

HERE = Path(__file__).parent
ENGINES = ["aio"]


@pytest.fixture(scope="session")
def echo(tmp_path_factory: pytest.TempPathFactory, proto_image: Path) -> Iterator[ModuleType]:
    """The echo service's module, its stubs generated for this run."""
    out = tmp_path_factory.mktemp("stubs")
    arguments = [f"-I{HERE / 'protos'}", f"--descriptor_set_in={proto_image}"]
    outputs = [f"--python_out={out}", f"--grpc_python_out={out}"]
    assert protoc.main(["protoc", *arguments, *outputs, "conformance/v1/echo.proto"]) == 0
    sys.path[:0] = [str(out), str(HERE)]
    yield importlib.import_module("echo")
    for path in (str(out), str(HERE)):
        sys.path.remove(path)


@pytest.fixture(params=ENGINES)
async def lab(
    request: pytest.FixtureRequest, echo: ModuleType, postgres: str, nats_url: str
) -> AsyncIterator[Lab]:
    settings = {"engine": request.param}
    async with laboratory(
        {"echo": echo.build}, postgres_url=postgres, nats_url=nats_url, settings=settings
    ) as lab:
        yield lab
