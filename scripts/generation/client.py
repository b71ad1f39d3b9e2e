"""The Python client for callers outside the mesh: dataclasses, calls that wait and calls that await."""

from __future__ import annotations

import re
from pathlib import Path

from generation.protoc import Sources, plugin, protoc

PACKAGE = "weft_client"
OPTIONS = ("client_generation=async_sync", "pydantic_dataclasses")

# betterproto2 0.10 writes the oneof check as a class method, which pydantic deprecates.
CHECK = re.compile(r"def check_oneof\(cls, values\):\n(\s+)return cls\._validate_field_groups\(values\)")
CHECK_INSTANCE = r"def check_oneof(self):\n\1return self._validate_field_groups(self)"


def write(sources: Sources, out: Path) -> None:
    """Writes the import root `weft_client` into `out`."""
    package = out / PACKAGE
    package.mkdir(parents=True)
    options = [f"--python_betterproto2_opt={option}" for option in OPTIONS]
    outputs = [plugin("python_betterproto2"), f"--python_betterproto2_out={package}", *options]
    protoc(sources, outputs, sources.files())
    for path in package.rglob("*.py"):
        path.write_text(CHECK.sub(CHECK_INSTANCE, path.read_text()))
