"""`python -m envoy`: writes the edge's configuration (the package's docstring has the settings)."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import __doc__ as contract, bootstrap, settings
from .binary import binary
from .methods import BadContract


def main() -> int:
    """Runs the command; returns its exit code."""
    options = _options()
    if options.binary:
        sys.stdout.write(f"{binary()}\n")
        return 0
    try:
        written = bootstrap.write(settings.load(options.settings), options.out)
    except (settings.BadSettings, BadContract, OSError) as error:
        sys.stderr.write(f"envoy: {error}\n")
        return 1
    if options.validate and (complaint := bootstrap.validate(written)):
        sys.stderr.write(complaint)
        return 1
    sys.stdout.write(f"{written}\n")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m envoy",
        description=contract,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=Path(".weft/envoy"), help="folder to write into")
    parser.add_argument("--settings", type=Path, help="JSON file")
    parser.add_argument("--validate", action="store_true", help="have Envoy check what was written")
    parser.add_argument("--binary", action="store_true", help="print the path of Envoy's executable")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
