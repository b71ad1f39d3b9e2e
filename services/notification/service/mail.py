"""weft.notification.v1.MailboxService."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

from services.chassis.db import Database
from services.chassis.method import Call
from services.notification import lists, mailbox, store
from services.notification.domain import Mail, MailboxOff, UnknownMail
from services.notification.service import pack
from weft.notification.v1 import mailbox_pb2 as pb
from weft.notification.v1.mailbox_pb2_grpc import MailboxServiceServicer

WATCH_BATCH_MAX = 50
WATCH_POLL_S = 1.0  # Another process may have taken the mail; the mailbox tells only its own.


class MailboxMail(MailboxServiceServicer):
    """Answers only where there is a mailbox."""

    def __init__(self, db: Database, box: mailbox.Mailbox | None, page_key: str) -> None:
        self._db, self._box, self._page_key = db, box, page_key

    async def ListMail(self, request: pb.ListMailRequest, call: Call) -> pb.ListMailResponse:
        self._open()
        page = lists.MAIL.page(request, self._page_key)
        async with self._db.transaction() as tx:
            rows, token = await lists.mail(tx, page, request.recipient)
        packed = [pack.mail(row, mailbox.contents(row.source), whole=False) for row in rows]
        return pb.ListMailResponse(mail=packed, next_page_token=token)

    async def GetMail(self, request: pb.GetMailRequest, call: Call) -> pb.GetMailResponse:
        self._open()
        async with self._db.transaction() as tx:
            row = await store.mail(tx, UUID(request.mail_id))
        if row is None:
            raise UnknownMail(mail_id=request.mail_id)
        packed = pack.mail(row, mailbox.contents(row.source), whole=True)
        packed.source = row.source
        return pb.GetMailResponse(mail=packed)

    async def WatchMail(
        self, request: pb.WatchMailRequest, call: Call
    ) -> AsyncIterator[pb.WatchMailResponse]:
        box = self._open()
        arrived = box.listen()
        try:
            after = request.after_sequence
            if not request.HasField("after_sequence"):
                async with self._db.transaction() as tx:
                    after = await store.last_mail(tx)
            await call.send_initial_metadata(())
            while True:
                arrived.clear()
                rows = await self._after(after, request.recipient)
                for row in rows:
                    after = row.sequence
                    read = mailbox.contents(row.source)
                    yield pb.WatchMailResponse(mail=pack.mail(row, read, whole=True))
                if len(rows) < WATCH_BATCH_MAX:
                    await _within(arrived, WATCH_POLL_S)
        finally:
            box.unlisten(arrived)

    async def _after(self, sequence: int, recipient: str) -> list[Mail]:
        async with self._db.transaction() as tx:
            return list(await store.mail_after(tx, sequence, recipient, WATCH_BATCH_MAX))

    async def ClearMail(self, request: pb.ClearMailRequest, call: Call) -> pb.ClearMailResponse:
        self._open()
        async with self._db.transaction() as tx:
            return pb.ClearMailResponse(cleared=await store.clear_mail(tx))

    def _open(self) -> mailbox.Mailbox:
        """Raises MailboxOff."""
        if self._box is None:
            raise MailboxOff
        return self._box


async def _within(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
