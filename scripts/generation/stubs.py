"""Python messages, servicers and stubs, typed, with the protos' comments as docstrings."""

from __future__ import annotations

from pathlib import Path

from generation.contract import Contract
from generation.protoc import VALIDATE, Sources, plugin, protoc

# Servicers are given a Call of the chassis and stubs its Mesh, of which generated code knows nothing.
OURS = {
    "context: _ServicerContext,": "context: _typing.Any,",
    "channel: _aio.Channel": "channel: _typing.Any",
}


def write(sources: Sources, contract: Contract, out: Path) -> None:
    """Writes the import roots `weft` and `buf`. Importing a generated module registers
    buf.validate's extensions in the default pool, where protovalidate looks for the rules."""
    messages = [plugin("mypy"), f"--python_out={out}", f"--mypy_out={out}"]
    protoc(sources, messages, [*sources.files(), VALIDATE])
    services = [plugin("mypy_grpc"), f"--grpc_python_out={out}", f"--mypy_grpc_out={out}"]
    protoc(sources, services, [file.name for file in contract.files if file.services_by_name])
    for stub in out.rglob("*_pb2_grpc.pyi"):
        text = stub.read_text()
        for theirs, ours in OURS.items():
            text = text.replace(theirs, ours)
        stub.write_text(text)
