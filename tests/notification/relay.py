"""A relay that answers as the test says, over real SMTP."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiosmtpd.smtp import SMTP, Envelope, Session

TAKEN = "250 2.0.0 taken"


@dataclass
class Relay:
    """What came, and what is answered next."""

    port: int = 0
    taken: list[Envelope] = field(default_factory=list)
    recipients: list[str] = field(default_factory=list)  # Answers to RCPT, first come; then all are welcome.
    mails: list[str] = field(default_factory=list)  # Answers to DATA; then all are taken.
    sessions: int = 0
    held: asyncio.Event | None = None  # A mail is not answered before this is set.
    before_answer: Callable[[], None] = lambda: None  # Called when a mail is taken, before that is said.

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        answer = self.recipients.pop(0) if self.recipients else "250 2.1.5 ok"
        if answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        answer = self.mails.pop(0) if self.mails else TAKEN
        if self.held:
            await self.held.wait()
        if answer.startswith("250"):
            self.taken.append(envelope)
            self.before_answer()
        return answer

    def ids(self) -> list[str]:
        """Message-IDs of what was taken."""
        lines = [line for envelope in self.taken for line in envelope.original_content.split(b"\r\n")]
        return [line.decode() for line in lines if line.startswith(b"Message-ID:")]


@asynccontextmanager
async def relay(port: int = 0) -> AsyncIterator[Relay]:
    made = Relay()

    def session() -> SMTP:
        made.sessions += 1
        return SMTP(made, hostname="relay.test", enable_SMTPUTF8=True, loop=asyncio.get_running_loop())

    server = await asyncio.get_running_loop().create_server(session, "127.0.0.1", port)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
