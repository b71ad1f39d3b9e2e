"""Python messages, servicers and stubs, typed, with the protos' comments as docstrings."""

from __future__ import annotations

from pathlib import Path

from generation.protoc import VALIDATE, Sources, plugin, protoc


def write(sources: Sources, out: Path) -> None:
    """Writes the import roots `weft` and `buf`. Importing a generated module registers
    buf.validate's extensions in the default pool, where protovalidate looks for the rules."""
    out.mkdir(parents=True, exist_ok=True)
    kinds = ("python", "grpc_python", "mypy", "mypy_grpc")
    outputs = [plugin("mypy"), plugin("mypy_grpc"), *(f"--{kind}_out={out}" for kind in kinds)]
    protoc(sources, outputs, [*sources.files(), VALIDATE])
