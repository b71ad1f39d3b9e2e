"""Mails to whoever runs the mesh: capabilities whose mode is another one than they were last told."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from uuid import UUID, uuid5

from google.rpc import code_pb2

from services.chassis.clock import Clock
from services.chassis.db import Database
from services.chassis.errors import CallFailed
from services.chassis.mesh import Mesh
from services.health.board import Board
from services.health.domain.alert import news
from services.health.domain.plan import Mode
from services.health.settings import HealthSettings
from services.health.store import alert as store
from weft.notification.v1.notification_pb2 import Channel, Recipient, SendMessageRequest
from weft.notification.v1.notification_pb2_grpc import NotificationServiceStub

LOOK_EVERY_S = 15.0  # What was held back by `alert_quiet_s`, or by an outage, is told within this.
MAILS = UUID("0f6f4d0c-8e7b-4c59-9d7e-5b1f0f8d2c66")  # Names of mails are made below it.
NAMED_MAX = 20  # Capabilities that one mail names; the list of all is an rpc away.


class Alerting:
    """On one replica at a time."""

    def __init__(
        self, db: Database, mesh: Mesh, clock: Clock, board: Board, settings: HealthSettings
    ) -> None:
        self._db, self._clock, self._board, self._settings = db, clock, board, settings
        self._notification = NotificationServiceStub(mesh)

    async def run(self) -> None:
        """For ever; raises while the database or notification is away, and is begun again."""
        async with self._db.leases.hold("health.alerts") as lease:
            while True:
                lease.check()
                word = self._board.word
                await self.round()
                await self._board.after(word, LOOK_EVERY_S)

    async def round(self) -> int:
        """How many capabilities were told of."""
        word, now = self._board.word, self._clock.now()
        modes = {name: each.mode for name, each in word.state.capabilities.items()}
        quiet = timedelta(seconds=self._settings.alert_quiet_s)
        due = news(modes, await store.heard(self._db), now, quiet)
        if due:
            changed = {name: word.state.capabilities[name].since for name in due}
            mail_id = uuid5(MAILS, repr(sorted((name, due[name].value, at) for name, at in changed.items())))
            await self._send(mail_id, due)
            await store.told(self._db, due, now)
        return len(due)

    async def _send(self, mail_id: UUID, due: Mapping[str, Mode]) -> None:
        """Once for each id."""
        capabilities = self._board.word.state.capabilities
        lines = [_line(name, due[name], capabilities[name].causes) for name in sorted(due)]
        more = len(lines) - NAMED_MAX
        values = {"modes": "\n".join(lines[:NAMED_MAX]), "more": str(more) if more > 0 else ""}
        to = Recipient(address=self._settings.alert_address, locale=self._settings.alert_locale)
        try:
            await self._notification.SendMessage(
                SendMessageRequest(
                    message_id=str(mail_id),
                    template="health_changed",
                    channel=Channel.CHANNEL_EMAIL,
                    recipient=to,
                    values=values,
                )
            )
        except CallFailed as failed:
            if failed.code != code_pb2.ALREADY_EXISTS:
                raise


def _line(name: str, mode: Mode, causes: tuple[str, ...]) -> str:
    why = f" ({', '.join(causes[:5])})" if causes and mode is not Mode.NORMAL else ""
    return f"{name}\t{mode.value}{why}"
