"""The descriptor set that the edge transcodes and routes by."""

from __future__ import annotations

from pathlib import Path

from generation.contract import Contract


def write(contract: Contract, path: Path) -> None:
    """All files of the image, options kept, comments dropped."""
    plain = type(contract.image)()
    plain.CopyFrom(contract.image)
    for file in plain.file:
        file.ClearField("source_code_info")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(plain.SerializeToString(deterministic=True))
