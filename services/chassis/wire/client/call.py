"""A call as its caller holds it: grpc.aio's methods, over one or more attempts.

All of it runs in callbacks of the event loop: a unary call takes one future and no task. A call is over once
its status is known. Until the server's headers have come it is not committed, and another attempt may take
the place of one that failed (gRFC A6).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import grpc
from grpc import StatusCode

from services.chassis.wire import messages
from services.chassis.wire.client.attempt import Attempt
from services.chassis.wire.client.deadlines import Bucket
from services.chassis.wire.client.hedging import Hedging
from services.chassis.wire.client.method import Method, fields, gzips
from services.chassis.wire.client.outcome import (
    NO_METADATA,
    Metadata,
    RpcError,
    Status,
    pushback_s,
    read_metadata,
)
from services.chassis.wire.client.retrying import Retrying
from services.chassis.wire.hpack import literal
from services.chassis.wire.messages import MessageFault

if TYPE_CHECKING:
    from services.chassis.wire.client.balancing import Target
    from services.chassis.wire.client.connection import ClientConnection

CANCELLED = Status(StatusCode.CANCELLED, "Locally cancelled by application!")  # grpc.aio's words, as below.
EXPIRED = Status(StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
PREVIOUS = b"grpc-previous-rpc-attempts"  # A6: so a server sees that a call is not the first of its kind.


class Call:
    """What the four kinds share. Where no policy is, it is the course of its attempts itself."""

    attempt_kind: type[Attempt] = Attempt
    avoid: tuple[Target, ...] = ()
    _loose: Any = None  # Stands for the call where it must not be kept alive; None: the call itself does.
    _repeated = False  # Tried again without a policy: once, for what the server did not process (A6).
    _cancelled = False
    _cause: BaseException | None = None

    def __init__(
        self,
        method: Method,
        timeout_s: float | None,
        metadata: Any,
        wait_for_ready: bool | None,
        compression: grpc.Compression | None,
    ) -> None:
        # What every call reads is the object's own: the interpreter reads that faster than a class's default.
        self.method, self.channel, self.loop = method, method.channel, method.channel.loop
        self.response_bytes_max = method.response_bytes_max
        self.status: Status | None = None
        self.attempt: Attempt | None = None  # Whose answer the caller gets; until that is known, the latest.
        self.committed = False
        self._policy: Retrying | Hedging | None = None
        self._prompt = False  # Nothing has passed of the timeout.
        self._deadline: float | None = None
        self._bucket: Bucket | None = None
        self._ends: list[asyncio.Future[None]] | None = None
        self._waiters: list[asyncio.Future[None]] | None = None
        self._callbacks: list[Callable[[Any], Any]] | None = None
        self._gzip = method.gzip if compression is None else gzips(compression)
        self._fields = fields(metadata) if metadata else b""
        self.wait_for_ready = method.wait_for_ready if wait_for_ready is None else wait_for_ready
        if method.timeout_s is not None:
            timeout_s = method.timeout_s if timeout_s is None else min(timeout_s, method.timeout_s)
        self._timeout_s = timeout_s

    # The course of attempts.

    def start(self) -> None:
        """Sets the deadline, and wants a connection."""
        timeout_s = self._timeout_s
        if timeout_s is not None:
            if timeout_s <= 0:
                self.finish(EXPIRED)
                return
            self._deadline = deadline = self.loop.time() + timeout_s
            self._bucket = self.channel.deadlines.add(deadline, self._loose or self)
        self._prompt = True
        if self.method.has_policy and self._keep():
            self._policy = self._follow_policy()
            self._policy.start()
        else:
            self.channel.place(self)
        self._prompt = False

    def begin(self, connection: ClientConnection, target: Target) -> None:
        """There is a connection."""
        self.open(connection, target, self._loose or self, 0)

    def refuse(self, code: StatusCode, details: str) -> None:
        """There is none, and none is waited for."""
        self.finish(Status(code, details))

    def open(
        self, connection: ClientConnection, target: Target, course: Any, previous: int
    ) -> Attempt | None:
        """Begins an attempt, `previous` others having been made; None when the deadline has passed."""
        timeout_s, more = self._timeout_s, self._fields
        if timeout_s is not None and not self._prompt:
            timeout_s = self.time_remaining()
            if not timeout_s:
                self.finish(EXPIRED)
                return None
        if previous:
            more += literal(PREVIOUS, b"%d" % previous)
        self.attempt = attempt = self.attempt_kind(connection, course, target)
        self._send_on(attempt, connection, self.method.block(timeout_s, self._gzip, more))
        if self._waiters is not None:
            self._wake()
        return attempt

    def commit(self, attempt: Attempt) -> None:
        """`attempt` is the one whose answer the caller gets."""
        self.attempt, self.committed = attempt, True
        attempt.course = self._loose or self
        self._release()
        if self._waiters is not None:
            self._wake()

    def ended(self, attempt: Attempt, status: Status) -> None:
        if attempt.unprocessed and not self._repeated and not self.committed and self._replayable():
            self._repeated = True
            self.channel.place(self)
            return
        if self.channel.throttle is not None:
            self.account(status, attempt)
        self.finish(status, attempt)

    def account(self, status: Status, attempt: Attempt | None) -> None:
        """Fills and empties the bucket of retries (A6)."""
        throttle, config = self.channel.throttle, self.method.config
        if throttle is None:
            return
        if status.code is StatusCode.OK:
            throttle.succeeded()
            return
        policy = config.retry or config.hedging
        asked_s = pushback_s((attempt.trailers if attempt is not None else None) or ())
        if (policy is not None and status.code in policy.codes) or (asked_s is not None and asked_s < 0):
            throttle.failed()

    def finish(self, status: Status, attempt: Attempt | None = None) -> None:
        """The call is over. Whatever else was under way for it must be stopped by then, or is by `_drop`."""
        if self.status is not None:
            return
        if status.code is StatusCode.CANCELLED and self.time_remaining() == 0.0 and not self._cancelled:
            status = EXPIRED  # The server was quicker to notice.
        self.attempt = attempt or self.attempt
        self.status = status
        if self._bucket is not None:
            self._bucket.pop(self._loose or self, None)
        if not self.committed:
            self._release()
        self._policy = None
        if self._ends is not None:
            _wake(self._ends)
        if self._waiters is not None:
            self._wake()
        for callback in self._callbacks or ():
            self.loop.call_soon(callback, self)

    # What callers use.

    def cancel(self) -> bool:
        """Whether there was something to cancel."""
        if self.status is not None:
            return False
        self._cancelled = True
        self._drop()
        self.finish(CANCELLED)
        return True

    def cancelled(self) -> bool:
        return self.status is not None and self.status.code is StatusCode.CANCELLED

    def done(self) -> bool:
        return self.status is not None

    def time_remaining(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - self.loop.time())

    def add_done_callback(self, callback: Callable[[Any], Any]) -> None:
        """Calls `callback(call)` when the call is over."""
        if self.status is not None:
            self.loop.call_soon(callback, self)
        elif self._callbacks is None:
            self._callbacks = [callback]
        else:
            self._callbacks.append(callback)

    async def initial_metadata(self) -> Metadata:
        """Waits for the server's headers; empty when the call ended without any."""
        while not self.committed and self.status is None:
            await self._change()
        return self._initial_metadata()

    async def trailing_metadata(self) -> Metadata:
        """Waits for the end, as the three below do."""
        await self._end()
        return self._trailing_metadata()

    async def code(self) -> StatusCode:
        return (await self._end()).code

    async def details(self) -> str:
        return (await self._end()).details

    async def debug_error_string(self) -> str:
        status = await self._end()
        return f"{status.code.name}: {status.details}"

    async def wait_for_connection(self) -> None:
        """Returns once an attempt has been begun. Raises RpcError when the call failed before."""
        while self.attempt is None and self.status is None:
            await self._change()
        if self.status is not None:
            self.raise_for_status()

    def __repr__(self) -> str:
        state = self.status.code.name if self.status is not None else "in flight"
        return f"<{type(self).__name__} {self.method.path} {state}>"

    # For the kinds.

    def raise_for_status(self) -> None:
        """Of a finished call: RpcError, or CancelledError if it was cancelled here."""
        if self._cancelled:
            raise asyncio.CancelledError
        assert self.status is not None
        if self.status.code is not StatusCode.OK:
            raise self.error() from self._cause

    def error(self) -> RpcError:
        assert self.status is not None
        return RpcError(self.status, self._initial_metadata(), self._trailing_metadata())

    def decoded(self, attempt: Attempt, flag: int, payload: bytes) -> Any:
        """The message. Raises RpcError, INTERNAL for what cannot be decoded, and the call is over."""
        try:
            if flag:
                payload = self._plain(attempt, flag, payload)
            decode = self.method.decode
            return payload if decode is None else decode(payload)
        except MessageFault as fault:
            # "Compression mechanism used by server not supported by client: INTERNAL" (gRPC's status codes).
            code = StatusCode.INTERNAL if fault.code is StatusCode.UNIMPLEMENTED else fault.code
            self._spoilt(Status(code, str(fault)), fault)
        except Exception as error:
            self._spoilt(Status(StatusCode.INTERNAL, "the response could not be decoded"), error)

    def _plain(self, attempt: Attempt, flag: int, payload: bytes) -> bytes:
        encoding = next((value for name, value in attempt.headers or () if name == b"grpc-encoding"), None)
        return messages.unpack(flag, payload, encoding, self.response_bytes_max)

    def _spoilt(self, status: Status, cause: BaseException) -> None:
        self._drop()
        self.finish(status)
        self.status, self._cause = status, cause
        self.raise_for_status()

    def _drop(self) -> None:
        """Ends what is under way for this call."""
        if self._policy is not None:
            self._policy.stop()
        self.channel.withdraw(self)
        if self.attempt is not None:
            self.attempt.give_up()

    def expire(self) -> None:
        """The deadline has come."""
        if self.status is None:
            self._drop()
            self.finish(EXPIRED)

    def _follow_policy(self) -> Retrying | Hedging:
        config = self.method.config
        if config.hedging is not None:
            return Hedging(self, config.hedging)
        assert config.retry is not None
        return Retrying(self, config.retry)

    async def _end(self) -> Status:
        while self.status is None:
            await self._ending()
        return self.status

    def _ending(self) -> asyncio.Future[None]:
        future = self.loop.create_future()
        if self._ends is None:
            self._ends = [future]
        else:
            self._ends.append(future)
        return future

    def _change(self) -> asyncio.Future[None]:
        """Done when an attempt is begun or answered, and at the end."""
        future = self.loop.create_future()
        if self._waiters is None:
            self._waiters = [future]
        else:
            self._waiters.append(future)
        return future

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, None
        _wake(waiters or [])

    def _initial_metadata(self) -> Metadata:
        attempt = self.attempt
        return read_metadata(attempt.headers) if attempt is not None and attempt.headers else NO_METADATA

    def _trailing_metadata(self) -> Metadata:
        attempt = self.attempt
        return read_metadata(attempt.trailers) if attempt is not None and attempt.trailers else NO_METADATA

    # Told by how requests are made.

    def _send_on(self, attempt: Attempt, connection: ClientConnection, block: bytes) -> None:
        """Opens the stream of `attempt`, and sends on it what was sent before."""
        raise NotImplementedError

    def _keep(self) -> bool:
        """Whether what is sent can be kept for another attempt."""
        raise NotImplementedError

    def _replayable(self) -> bool:
        """Whether it is kept."""
        raise NotImplementedError

    def _release(self) -> None:
        """Nothing needs to be kept any more."""
        raise NotImplementedError


def _wake(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)
