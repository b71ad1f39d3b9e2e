"""What one job may use when it runs in a process of its own."""

from dataclasses import dataclass

MIB = 1024 * 1024
OUTPUT_BYTES_MAX = MIB  # What a job prints goes into logs; who has more to say writes a file.
PROCESSES_MAX = 16  # At once, below one job: enough for a tool and its children.
FILE_BYTES_MAX = 1024 * MIB  # Each file it writes; a full disk stops its neighbours too.


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Beyond one of them the job is ended, and that is its reason. None: no limit but the machine's."""

    cpu_s: float | None = None  # Of user and system time; counted by the kernel in whole seconds.
    memory_bytes: int | None = None  # Of address space, beyond what the process has when the job begins.
    open_files: int | None = None  # Beyond those that are open when the job begins.
    file_bytes: int = FILE_BYTES_MAX
    output_bytes: int = OUTPUT_BYTES_MAX  # To stdout and stderr together.
    processes: int = PROCESSES_MAX

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be above 0, not {value}")
