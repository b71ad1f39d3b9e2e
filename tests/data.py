"""Outside data: files that are not part of the repository, found beside it or where a variable says."""

import os
from pathlib import Path

import pytest

VARIABLE = "WEFT_SHARED_DATA"
BESIDE = Path(__file__).parent.parent.parent / "shared" / "data"


def shared(name: str) -> Path:
    """The file or folder; skips the test where it is not there."""
    path = Path(os.environ.get(VARIABLE) or BESIDE) / name
    if not path.exists():
        pytest.skip(f"outside data {name} is not here; {VARIABLE} may say where it is")
    return path
