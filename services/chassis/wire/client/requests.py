"""What a caller sends: one message, or a stream of them with back-pressure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable
from typing import Any

from grpc import StatusCode

from services.chassis.wire.client.attempt import Attempt
from services.chassis.wire.client.balancing import Target
from services.chassis.wire.client.call import Call
from services.chassis.wire.client.connection import ClientConnection
from services.chassis.wire.client.method import Message, TooLarge
from services.chassis.wire.client.outcome import RpcError, Status
from services.chassis.wire.stream import StreamGone

FINISHED = "RPC already finished."  # grpc.aio's words, as the next.
HALF_CLOSED = 'RPC is half closed after calling "done_writing".'


class UsageError(RuntimeError):
    """A method of a call that does not fit how the call was made."""


class UnaryRequest(Call):
    """The message is kept, whatever its size, until the server takes the call."""

    _request: Message | None
    _counted: int  # Bytes of it that the channel's account of what is kept has.

    def send(self, request: Any) -> None:
        """Raises what the serializer raises."""
        self._counted = 0
        try:
            self._request = self.method.encoded(request, self._gzip)
        except TooLarge as error:
            self.finish(Status(StatusCode.RESOURCE_EXHAUSTED, str(error)))
            return
        self.start()

    def begin(self, connection: ClientConnection, target: Target) -> None:
        """The way of nearly all calls, straight on: nothing has passed of the timeout."""
        if not self._prompt:
            super().begin(connection, target)
            return
        self.attempt = attempt = self.attempt_kind(connection, self._loose or self, target)
        connection.open(attempt, self.method.block(self._timeout_s, self._gzip, self._fields), self._request)

    def _send_on(self, attempt: Attempt, connection: ClientConnection, block: bytes) -> None:
        connection.open(attempt, block, self._request)

    def _keep(self) -> bool:
        channel, size = self.channel, len(self._request[0]) if self._request else 0
        options = channel.options
        if size > options.replay_bytes_max or channel.replay_bytes + size > options.replay_total_bytes_max:
            return False
        channel.replay_bytes += size
        self._counted = size
        return True

    def _replayable(self) -> bool:
        return self._request is not None

    def _release(self) -> None:
        self._request = None
        if self._counted:
            self.channel.replay_bytes -= self._counted
            self._counted = 0


class StreamRequest(Call):
    """Messages are kept up to a bound until the server takes the call; a writer waits for the windows."""

    _closed = False  # There will be no further message.
    _kept_bytes = 0
    _consumer: asyncio.Task[None] | None = None

    def send(self, requests: Any) -> None:
        """`requests` is an iterable of either kind, or None for a caller who writes."""
        self._live: list[Attempt] = []
        self._kept: list[Message] | None = []
        self.start()
        if requests is not None and self.status is None:
            self._consumer = self.loop.create_task(self._consume(requests))

    async def write(self, request: Any) -> None:
        """Returns when another message may be written. Raises RpcError when the call has failed."""
        self._check_style()
        await self._write(request)

    async def done_writing(self) -> None:
        """May be said more than once."""
        self._check_style()
        self._close()

    def finish(self, status: Status, attempt: Attempt | None = None) -> None:
        super().finish(status, attempt)
        consumer = self._consumer
        if consumer is not None and not consumer.done() and consumer is not asyncio.current_task():
            consumer.cancel()

    def _check_style(self) -> None:
        if self._consumer is not None:
            raise UsageError("the call was made with an iterator of requests: it cannot be written to")

    async def _write(self, request: Any) -> None:
        if self.status is not None:
            raise asyncio.InvalidStateError(FINISHED)
        if self._closed:
            raise asyncio.InvalidStateError(HALF_CLOSED)
        message = self._encoded(request)
        try:
            live = await self._attempts()
            self._remember(message)
            crowded = [each for each in live if not each.gone and not each.send_message(*message)]
            for attempt in crowded:
                await self._drained(attempt)
        except asyncio.CancelledError:
            self.cancel()
            raise
        if self.status is not None:
            self.raise_for_status()

    async def _attempts(self) -> list[Attempt]:
        """Those that take messages. Waits for one."""
        while True:
            live = self._live
            if any(each.gone or each.local_ended for each in live):
                live = self._live = [each for each in live if not (each.gone or each.local_ended)]
            if live:
                return live
            if self.status is not None:
                self.raise_for_status()
                raise asyncio.InvalidStateError(FINISHED)
            await self._change()

    async def _drained(self, attempt: Attempt) -> None:
        try:
            await attempt.drained()
        except StreamGone:
            return  # Its call knows, and has another attempt or is over.

    def _encoded(self, request: Any) -> Message:
        try:
            message = self.method.encoded(request, self._gzip)
        except TooLarge as error:
            self._drop()
            self.finish(Status(StatusCode.RESOURCE_EXHAUSTED, str(error)))
            self.raise_for_status()
            raise
        return message

    def _close(self) -> None:
        if self._closed or self.status is not None:
            return
        self._closed = True
        for attempt in self._live:
            if not (attempt.gone or attempt.local_ended):
                attempt.send_end()

    async def _consume(self, requests: Any) -> None:
        try:
            if isinstance(requests, AsyncIterable):
                async for request in requests:
                    await self._write(request)
            else:
                for request in requests:
                    await self._write(request)
            self._close()
        except (RpcError, asyncio.InvalidStateError):
            if self.status is None:
                raise
        except asyncio.CancelledError:
            self.cancel()
            raise
        except Exception as error:
            # As grpc's own stubs: the status says that it was the caller's iterator, the cause which way.
            self._drop()
            self.finish(Status(StatusCode.UNKNOWN, "Exception iterating requests!"))
            self._cause = error

    # What is kept for other attempts.

    def _send_on(self, attempt: Attempt, connection: ClientConnection, block: bytes) -> None:
        connection.open(attempt, block, None)
        for message in self._kept or ():
            attempt.send_message(*message)
        if self._closed:
            attempt.send_end()
        self._live.append(attempt)

    def _remember(self, message: Message) -> None:
        kept, size, channel = self._kept, len(message[0]), self.channel
        if kept is None:
            return
        total = channel.replay_bytes + size
        options = channel.options
        if self._kept_bytes + size > options.replay_bytes_max or total > options.replay_total_bytes_max:
            self._release()
            if self._policy is not None:
                self._policy.hold()
            return
        kept.append(message)
        self._kept_bytes += size
        channel.replay_bytes = total

    def _keep(self) -> bool:
        return True

    def _replayable(self) -> bool:
        return self._kept is not None

    def _release(self) -> None:
        self._kept = None
        self.channel.replay_bytes -= self._kept_bytes
        self._kept_bytes = 0
