"""A worker that takes what it can and never ends any of it, as a program: to be killed."""

import asyncio
import sys

from services.chassis.jetstream.connection import Connection
from services.chassis.jetstream.pulling import Delivery, Pull
from services.chassis.jetstream.servers import Options
from services.chassis.jobs.claims import Journal
from services.chassis.jobs.presence import Presence


async def main(url: str, worker: str, room: int) -> None:
    """Says on its standard output how many messages it holds."""
    options = Options.of(url)
    connection = Connection(options)
    await connection.open()
    await Presence(connection, options, worker).open()
    journal = Journal(connection, worker)
    held: list[Delivery] = []

    def take(came: list[Delivery]) -> None:
        journal.took(came)
        held.extend(came)
        sys.stdout.write(f"{len(held)}\n")
        sys.stdout.flush()

    Pull(connection, "jobs", "mails_m", take, room).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
