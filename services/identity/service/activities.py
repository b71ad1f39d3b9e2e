"""weft.identity.v1.ActivityService."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from uuid import UUID

from nats.aio.msg import Msg

from services.chassis.bus import Bus
from services.chassis.method import Call
from services.identity.domain.activity import Activity, TooManyStreams
from services.identity.domain.session import SessionEnded
from services.identity.service.shared import Shared
from services.identity.store import activity as store, session as sessions
from weft.identity.v1 import activity_pb2 as pb
from weft.identity.v1.activity_pb2_grpc import ActivityServiceServicer

BATCH_MAX = 100  # Entries read at once.
STREAMS_MAX = 10  # Of one account at one process; a person has few windows open.


class Activities(ActivityServiceServicer):
    def __init__(self, shared: Shared) -> None:
        self._shared, self._heartbeat_s = shared, shared.settings.heartbeat_s
        self._streams: Counter[str] = Counter()

    async def ListActivity(self, request: pb.ListActivityRequest, call: Call) -> pb.ListActivityResponse:
        page = store.LISTING.page(request, self._shared.tools.settings.mesh_key)
        async with self._shared.db.transaction() as tx:
            entries, token = page.cut(await store.page(tx, UUID(request.user_id), page))
        listed = [to_pb(entry) for entry in entries]
        return pb.ListActivityResponse(activities=listed, next_page_token=token)

    async def WatchActivity(
        self, request: pb.WatchActivityRequest, call: Call
    ) -> AsyncIterator[pb.WatchActivityResponse]:
        last = request.after_sequence
        with self._room(request.user_id):
            async with _waking(self._shared.tools.bus, request.user_id) as happened:
                while True:
                    happened.clear()
                    await self._require_open(call)
                    entries = await self._after(UUID(request.user_id), last)
                    for entry in entries:
                        last = entry.sequence
                        yield pb.WatchActivityResponse(activity=to_pb(entry))
                    if not entries and not await _within(happened, self._heartbeat_s):
                        yield self._heartbeat()

    async def _after(self, user_id: UUID, sequence: int) -> Sequence[Activity]:
        return await store.after(self._shared.db, user_id, sequence, BATCH_MAX)

    async def _require_open(self, call: Call) -> None:
        """A stream does not outlive its session, though the token was good when it began."""
        if call.caller.session:
            now = self._shared.clock.now()
            if await sessions.check(self._shared.db, UUID(call.caller.session), now) is None:
                raise SessionEnded

    def _heartbeat(self) -> pb.WatchActivityResponse:
        response = pb.WatchActivityResponse()
        response.heartbeat.time.FromDatetime(self._shared.clock.now())
        return response

    @contextmanager
    def _room(self, user_id: str) -> Iterator[None]:
        if self._streams[user_id] >= STREAMS_MAX:
            raise TooManyStreams(streams=STREAMS_MAX)
        self._streams[user_id] += 1
        try:
            yield
        finally:
            self._streams[user_id] -= 1
            if not self._streams[user_id]:
                del self._streams[user_id]


@asynccontextmanager
async def _waking(bus: Bus, user_id: str) -> AsyncIterator[asyncio.Event]:
    """Set whenever an event about the account went out, by whichever process; the table has the rest."""
    happened = asyncio.Event()

    async def heard(message: Msg) -> None:
        happened.set()

    subscription = await bus.nc.subscribe(f"weft.identity.v1.*.{user_id}", cb=heard)
    try:
        yield happened
    finally:
        if not bus.nc.is_closed:
            await subscription.unsubscribe()


async def _within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False


def to_pb(entry: Activity) -> pb.Activity:
    message = pb.Activity(
        sequence=entry.sequence,
        kind=pb.ActivityKind.Value(f"ACTIVITY_KIND_{entry.kind.upper()}"),
        session_id=entry.session_id,
        actor=entry.actor,
        acting=entry.acting,
        address=entry.address,
        about=entry.about,
    )
    message.time.FromDatetime(entry.at)
    return message
