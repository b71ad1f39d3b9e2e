"""What a worker is told by core NATS: cancel, resize, drain, and what concerns lanes and claims."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from google.protobuf.message import DecodeError

from services.chassis.jetstream.connection import Connection, Subscription
from services.chassis.jetstream.protocol import Message
from services.chassis.jobs import subjects
from services.chassis.jobs.sending import seconds
from services.worker.runner import Runner
from weft.jobs.v1.job_pb2 import EndReason
from weft.jobs.v1.live_pb2 import Control

log = logging.getLogger("weft.worker")


class Orders:
    """Hears what concerns one worker, or all."""

    def __init__(self, connection: Connection, worker: str, runner: Runner) -> None:
        self._connection, self._worker, self._runner = connection, worker, runner
        self._subscriptions: list[Subscription] = []
        self.drain: Callable[[float | None], None] = lambda grace_s: None  # Set before it starts.
        self.lanes_changed: Callable[[str], None] = lambda queue: None
        self.worker_gone: Callable[[str], None] = lambda worker: None

    def start(self) -> None:
        for subject in (subjects.control(self._worker), subjects.EVERYONE):
            self._subscriptions.append(self._connection.subscribe(subject, self._hear))

    def stop(self) -> None:
        while self._subscriptions:
            self._subscriptions.pop().end()

    def _hear(self, messages: Sequence[Message]) -> None:
        for message in messages:
            try:
                self.obey(Control.FromString(message.payload))
            except DecodeError:
                log.warning("an order is not understood")

    def obey(self, order: Control) -> None:
        """Does as it says; what is not for us is nothing."""
        match order.WhichOneof("order"):
            case "cancel":
                told = order.cancel
                reason = told.reason or EndReason.END_REASON_CANCELLED_BY_REQUEST
                self._runner.stop(told.job_id, told.run, reason)
            case "resize":
                self._runner.resize(replace(self._runner.size, slots=order.resize.slots))
            case "drain":
                self.drain(seconds(order.drain.grace) if order.drain.HasField("grace") else None)
            case "lanes_changed":
                self.lanes_changed(order.lanes_changed.queue)
            case "worker_gone":
                self.worker_gone(order.worker_gone.worker)
