"""Stubs of the peers' proto, made for this run, and a certificate for localhost."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import files
from pathlib import Path
from types import ModuleType

import pytest
from grpc_tools import protoc

from tests.wire.certificates import Pair, pair

PROTOS = Path(__file__).parent / "protos"
PROTO = "peers/v1/echo.proto"


@dataclass
class Stubs:
    """Generated modules, and the file with the proto's descriptor set."""

    pb: ModuleType
    grpcio: ModuleType
    grpclib: ModuleType
    descriptor: Path


@pytest.fixture(scope="session")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stubs]:
    out = tmp_path_factory.mktemp("peers")
    plugin = Path(sys.executable).parent / "protoc-gen-grpclib_python"
    includes = [f"-I{path}" for path in (PROTOS, _apis(), Path(protoc.__file__).parent / "_proto")]
    outputs = [f"--python_out={out}", f"--grpc_python_out={out}", f"--grpclib_python_out={out}"]
    options = [f"--plugin=protoc-gen-grpclib_python={plugin}", "--include_imports", f"-o{out / 'echo.binpb'}"]
    assert protoc.main(["protoc", *includes, *outputs, *options, PROTO]) == 0
    sys.path.insert(0, str(out))
    names = ("echo_pb2", "echo_pb2_grpc", "echo_grpc")
    yield Stubs(*(importlib.import_module(f"peers.v1.{name}") for name in names), out / "echo.binpb")
    sys.path.remove(str(out))


def _apis() -> Path:
    """The folder of google/api/annotations.proto inside its wheel."""
    for each in files("googleapis-common-protos") or []:
        if str(each).endswith("google/api/annotations.proto"):
            return Path(str(each.locate())).parents[2]
    raise FileNotFoundError("google/api/annotations.proto")


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return pair(tmp_path_factory.mktemp("certificates"))
