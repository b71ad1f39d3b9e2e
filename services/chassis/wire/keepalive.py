"""Asks a silent peer for signs of life (RFC 9113 §6.7, gRPC's keepalive document)."""

from __future__ import annotations

from services.chassis.wire.connection import Connection
from services.chassis.wire.errors import ErrorCode


class Keepalive:
    """PING after a silence of one to two `keepalive_s`; the connection ends when no frame follows in time."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._limits = connection, connection.limits

    def start(self) -> None:
        if self._limits.keepalive_s is not None:
            self._connection.after("keepalive", self._limits.keepalive_s, self._look)

    def _look(self) -> None:
        connection = self._connection
        if connection.heard or connection.deaf or not (connection.streams or self._limits.keepalive_idle):
            connection.heard = False
            self.start()
            return
        connection.ping(lambda: None)
        connection.after("keepalive", self._limits.keepalive_timeout_s, self._judge)

    def _judge(self) -> None:
        """Whatever came since, an answer or not, is a sign of life; whom we do not read cannot give one."""
        if self._connection.heard or self._connection.deaf:
            self.start()
        else:
            self._connection.fail(ErrorCode.NO_ERROR, "keepalive: no sign of life")
