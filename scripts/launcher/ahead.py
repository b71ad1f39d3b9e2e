"""`python -m services NAME...`, its imports done ahead: it loads at once, and begins when a line comes in.

    python -P ahead.py NAME...

Loading takes seconds and needs nothing, so it goes on while PostgreSQL and NATS come up. The end of the
input without a line means that the supervisor is gone.
"""

import runpy
import sys
from importlib import import_module


def main(names: list[str]) -> None:
    import_module("services.__main__")
    for name in names:
        import_module(f"services.{name}.app")
    if not sys.stdin.readline():
        sys.exit(1)
    sys.argv = ["services", *names]
    runpy.run_module("services", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
