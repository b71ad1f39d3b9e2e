"""What stops the launcher: one clear line for the person at the terminal, and a way out."""

import sys


class Problem(Exception):
    """Something the person can act on; printed without a traceback."""

    def __init__(self, what: str, way_out: str) -> None:
        super().__init__(what)
        self.what, self.way_out = what, way_out

    def __str__(self) -> str:
        return f"{self.what}\n  Way out: {self.way_out}"


def say(text: str = "") -> None:
    """A line for the person, at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def warn(text: str) -> None:
    """A line that is not part of a command's answer."""
    sys.stderr.write(f"weft: {text}\n")
    sys.stderr.flush()
