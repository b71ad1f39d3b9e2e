"""`python -m bench NAME`: runs one benchmark, or `all`, and prints its tables."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "gen")]

from bench import machine, mesh  # noqa: E402 - after the path
from bench.h2load import LoadFailed  # noqa: E402

NAMES = {
    "read": "one read by key through every door, against FastAPI and against gRPC's floor",
    "wire": "the engine under the services, and its client, against those that Python has",
    "jobs": "enqueue, drain and latency of jobs, against the job systems that Python has",
    "schedules": "firing of schedules: 10,000 due at once, and how late one is that is due alone",
    "commerce": "all of the following",
    "commerce.billing": "a billing run of 100,000 subscriptions, against rows that are only copied",
    "commerce.cart": "where carts are kept, three ways in turns",
    "commerce.catalog": "products taken in, found and made anew, and the event store below",
    "commerce.inventory": "reservations of a hot SKU and of 10,000, against bare PostgreSQL",
    "commerce.ledger": "transfers, against pgbench's TPC-B",
    "commerce.order": "checkouts through the edge, and searches among a million orders",
    "commerce.pricing": "quotes and redemptions, by what they hold",
    "ratelimit": "decisions of global rate limits, from memory, from the store, and through the edge",
    "registry": "registrations, and what clients of discovery wait for: 200 services of 5 instances",
    "stream": "an account's activity fanned out to many watchers",
    "sign-in": "sign-ins, and the share that Argon2 takes",
    "relay": "events from a commit to a consumer",
    "mixed": "capacity of a mixed load, then 60 s at 70 % of it",
    "start": "time to serve, and idle memory",
}
SECONDS, REPEATS = 5.0, 3


def arguments(words: list[str]) -> tuple[list[str], float, int, Path | None, bool]:
    listed = "\n".join(f"  {name:<18} {what}" for name, what in NAMES.items())
    parser = ArgumentParser(
        prog="bench", description=f"Measures.\n\n{listed}", formatter_class=RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=[*NAMES, "all"])
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each run (default 5)")
    parser.add_argument("--repeats", type=int, default=REPEATS, help="of each run; medians count (default 3)")
    parser.add_argument("--out", type=Path, help="a file that the tables are added to")
    parser.add_argument("--keep", action="store_true", help="leave the benchmarks' mesh running")
    given = parser.parse_args(words)
    names = list(NAMES) if given.name == "all" else [given.name]
    return names, given.seconds, given.repeats, given.out, given.keep


def main(words: list[str]) -> int:
    names, seconds, repeats, out, keep = arguments(words)
    try:
        for name in names:
            report = import_module(f"bench.{name.replace('-', '_')}").run(seconds, repeats)
            text = f"{_heading()}\n\n{report.markdown()}"
            sys.stdout.write(text + "\n")
            if out:
                with out.open("a") as file:
                    file.write(text + "\n")
    except (LoadFailed, mesh.MeshFailed) as failure:
        sys.stderr.write(f"bench: {failure}\n")
        return 1
    finally:
        if not keep:
            mesh.down()
    return 0


def _heading() -> str:
    facts = ", ".join(f"{name} {value}" for name, value in machine.described().items())
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC; {facts}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
