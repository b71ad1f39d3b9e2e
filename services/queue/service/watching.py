"""What happens to jobs, as it happens: from the stream of live updates, from any point of the last hour."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple
from uuid import UUID

import nats.errors
from nats.js import api

from services.chassis.bus import Bus
from services.chassis.jetstream.pulling import Delivery, Pull
from services.chassis.jobs import subjects, telling
from services.chassis.method import Call
from services.queue.domain.job import ResumeTokenRefused, TooManyWatches
from services.queue.service.shared import Shared
from services.queue.service.viewing import Views
from weft.jobs.v1.live_pb2 import StateChange, Update
from weft.queue.v1 import job_messages_pb2 as pb

WATCHES_MAX = 500  # Of one process: each is a consumer in JetStream and a stream of ours.
ROOM = 500  # Updates fetched ahead.
TOKEN, TOKEN_CHARS_MAX = re.compile(r"\d+(\.\d+)?", re.ASCII), 24
IDLE_S = 30.0  # A watch whose process died is forgotten by JetStream after this.


class Place(NamedTuple):
    """A place among the updates: all messages up to `last` were seen, and so many updates of the next one."""

    last: int
    seen: int

    @property
    def next(self) -> int:
        """The first message that is not seen whole."""
        return self.last + 1

    @property
    def token(self) -> str:
        return f"{self.last}.{self.seen}" if self.seen else str(self.last)


class Heard(NamedTuple):
    """An update, and the place behind it."""

    place: Place
    update: Update


class Watching:
    """Serves watches."""

    def __init__(self, shared: Shared, views: Views) -> None:
        self._shared, self._views, self._watches = shared, views, 0

    async def watch(self, request: pb.WatchJobsRequest, call: Call) -> AsyncIterator[pb.WatchJobsResponse]:
        """Until the caller ends it. Raises ResumeTokenRefused, TooManyWatches, UnknownJob."""
        after = _after(request.resume_token)
        with self._room():
            async for response in self._updates(request, after):
                yield response

    async def _updates(
        self, request: pb.WatchJobsRequest, after: Place | None
    ) -> AsyncIterator[pb.WatchJobsResponse]:
        bus = self._shared.tools.bus
        stream = (await bus.js.stream_info(subjects.LIVE)).state
        if after is not None and after.last > stream.last_seq:
            raise ResumeTokenRefused(field="resume_token")
        last = after or Place(stream.last_seq, 0)
        if request.job_id and after is None:
            yield await self._first(request.job_id, last)
        if after is not None and after.next < stream.first_seq:
            yield pb.WatchJobsResponse(missed=pb.Missed(), resume_token=last.token)
        inbox = _Inbox(UUID(request.job_id) if request.job_id else None, last)
        name = await _consumer(bus, request, last)
        pull = Pull(self._shared.wire.connection, subjects.LIVE, name, inbox.take, ROOM)
        inbox.pull = pull
        pull.start()
        try:
            while True:
                for heard in await inbox.next(self._shared.settings.heartbeat_s):
                    last = heard.place
                    if _fits(request, heard.update):
                        yield pb.WatchJobsResponse(update=heard.update, resume_token=last.token)
                if inbox.silent:
                    yield self._heartbeat(last)
        finally:
            await pull.stop()
            await _forget(bus, name)

    async def _first(self, job_id: str, last: Place) -> pb.WatchJobsResponse:
        """What is known of the one job that is watched. Raises UnknownJob."""
        job = await self._views.get(UUID(job_id))
        change = StateChange(state=job.state, reason=job.reason)
        if job.HasField("due_time"):
            change.next_time.CopyFrom(job.due_time)
        if job.HasField("progress"):
            change.progress.CopyFrom(job.progress)
        envelope = job.envelope
        update = Update(
            job_id=job_id,
            run=job.run,
            attempt=job.attempt,
            queue=envelope.queue,
            type=envelope.type,
            labels=envelope.labels,
            worker=job.worker,
            state=change,
        )
        update.time.FromDatetime(self._shared.clock.now())
        return pb.WatchJobsResponse(update=update, resume_token=last.token)

    def _heartbeat(self, last: Place) -> pb.WatchJobsResponse:
        response = pb.WatchJobsResponse(resume_token=last.token)
        response.heartbeat.time.FromDatetime(self._shared.clock.now())
        return response

    @contextmanager
    def _room(self) -> Iterator[None]:
        if self._watches >= WATCHES_MAX:
            raise TooManyWatches(max=WATCHES_MAX)
        self._watches += 1
        try:
            yield
        finally:
            self._watches -= 1


class _Inbox:
    """Between the connection, which hands over lists, and one caller, who reads at its own pace."""

    def __init__(self, job_id: UUID | None, after: Place) -> None:
        """`after`: what was seen of the first message is left out."""
        self._job_id, self._after = job_id, after
        self._came: list[Delivery] = []
        self._stirred = asyncio.Event()
        self.pull: Pull | None = None
        self.silent = False

    def take(self, deliveries: list[Delivery]) -> None:
        self._came += deliveries
        self._stirred.set()

    async def next(self, wait_s: float) -> Sequence[Heard]:
        """What came; nothing after a while without."""
        try:
            async with asyncio.timeout(wait_s):
                while not self._came:
                    self._stirred.clear()
                    await self._stirred.wait()
        except TimeoutError:
            self.silent = True
            return []
        self.silent = False
        taken, self._came = self._came, []
        if self.pull:
            self.pull.done(len(taken))
        return [heard for each in taken for heard in self._read(each)]

    def _read(self, message: Delivery) -> list[Heard]:
        if self._job_id and not telling.mentions(message.payload, self._job_id):
            return []
        before, wanted = message.sequence - 1, str(self._job_id) if self._job_id else None
        heard = [
            Heard(Place(before, n), update)
            for n, update in enumerate(telling.each_of(telling.read(message.payload)), 1)
            if wanted in (None, update.job_id)
        ]
        if heard:
            heard[-1] = Heard(Place(message.sequence, 0), heard[-1].update)
        if self._after.last == before:
            heard = [each for each in heard if each.place.last > before or each.place.seen > self._after.seen]
        return heard


def _after(token: str) -> Place | None:
    """What a token names. Raises ResumeTokenRefused."""
    if not token:
        return None
    if len(token) > TOKEN_CHARS_MAX or not TOKEN.fullmatch(token):
        raise ResumeTokenRefused(field="resume_token")
    last, _, seen = token.partition(".")
    return Place(int(last), int(seen or 0))


def _fits(request: pb.WatchJobsRequest, update: Update) -> bool:
    if not update.job_id or (request.states_only and update.WhichOneof("what") != "state"):
        return False
    if request.type and update.type != request.type:
        return False
    return all(f"{name}={update.labels.get(name)}" == label for name, label in _pairs(request.labels))


def _pairs(labels: Sequence[str]) -> list[tuple[str, str]]:
    return [(label.partition("=")[0], label) for label in labels]


async def _consumer(bus: Bus, request: pb.WatchJobsRequest, after: Place) -> str:
    """An ephemeral consumer of what is watched, behind `after`."""
    subject = subjects.live(request.queue or "*")
    made = await bus.js.add_consumer(
        subjects.LIVE,
        api.ConsumerConfig(
            filter_subject=subject,
            deliver_policy=api.DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=after.next,
            ack_policy=api.AckPolicy.NONE,
            inactive_threshold=IDLE_S,
            mem_storage=True,
        ),
    )
    return str(made.name)


async def _forget(bus: Bus, name: str) -> None:
    """Should NATS be away, it forgets by itself in a while."""
    with suppress(nats.errors.Error, TimeoutError):
        await bus.js.delete_consumer(subjects.LIVE, name)
