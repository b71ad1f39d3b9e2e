"""Starts a program on a leash: it gets a signal when its parent dies, and gives up root if told to.

    python -I -S leash.py SIGNAL PARENT UID GID PROGRAM [ARGUMENT...]

A program of its own, because between fork and exec a process with threads may not safely run Python; UID
-1 keeps the account. The kernel forgets the death signal when the account changes, so the order matters.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

PR_SET_PDEATHSIG = 1


def words(command: Sequence[str], number: int, uid: int = -1, gid: int = -1) -> list[str]:
    """Runs `command` so, as a child of this process."""
    told = [str(int(number)), str(os.getpid()), str(uid), str(gid)]
    return [sys.executable, "-I", "-S", __file__, *told, *command]


def main(arguments: list[str]) -> None:
    number, parent, uid, gid = (int(argument) for argument in arguments[:4])
    libc = ctypes.CDLL(None)
    if uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if sys.platform == "linux":
        libc.prctl(PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:  # It died before the leash was on.
        os.kill(os.getpid(), signal.SIGKILL)
    os.execv(arguments[4], arguments[4:])


if __name__ == "__main__":
    main(sys.argv[1:])
