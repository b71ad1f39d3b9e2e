"""Which of the two PostgreSQL servers is the primary, written down before it becomes so.

What a restart goes by, also after a kill at any line: a server is only ever started to be written to when
it stands here, and it only comes to stand here when every process of the former one is gone.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from launcher.problem import Problem


@dataclass(frozen=True)
class Roles:
    """What stands in the file."""

    primary: int = 0  # 0 or 1.
    # Whether the other one has every commit that was acknowledged: commits wait for it. Only then may it
    # become the primary. Taken back here before commits go on without it.
    in_step: bool = False

    @classmethod
    def read(cls, path: Path) -> "Roles | None":
        """None before there was a cluster. Raises Problem."""
        try:
            return cls(**json.loads(path.read_text()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            raise Problem(
                f"{path} cannot be read, and it says which PostgreSQL is the primary",
                'write {"primary": 0, "in_step": false} (or 1, for postgres-2) if you know which it was',
            ) from error

    def write(self, path: Path) -> None:
        """Through to disk."""
        unfinished = path.with_suffix(".new")
        with unfinished.open("w") as file:
            json.dump(asdict(self), file)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
