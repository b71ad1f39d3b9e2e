"""weft.inventory.v1.AvailabilityService."""

import base64
import binascii
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b

from services.chassis.method import Call
from services.inventory.domain.watching import ResumeTokenRefused, TooManyWatches
from services.inventory.service import pack
from services.inventory.service.hearing import Hearing
from services.inventory.service.shared import Shared
from services.inventory.store import availability as store
from weft.inventory.v1 import availability_pb2 as pb
from weft.inventory.v1.availability_pb2_grpc import AvailabilityServiceServicer

HEARTBEAT_S = 15.0  # Proxies drop what is silent for a minute; a lost message is made up for by then.
WATCHES_MAX = 1_000  # Of one process: half of the calls that it answers at once.
MARK_BYTES = 4  # What was told of a SKU; two states look alike once in four billion.
# A resume token is what was told of each SKU, hashed: so it outlives every restart, and needs no log.


class AvailabilityOf(AvailabilityServiceServicer):
    def __init__(self, shared: Shared, hearing: Hearing) -> None:
        self._shared, self._hearing, self._watches = shared, hearing, 0

    async def BatchGetAvailability(
        self, request: pb.BatchGetAvailabilityRequest, call: Call
    ) -> pb.BatchGetAvailabilityResponse:
        return pb.BatchGetAvailabilityResponse(availabilities=await self._read(request.skus))

    async def _read(self, skus: Sequence[str]) -> list[pb.Availability]:
        """In this order."""
        made = {sku: pb.Availability(sku=sku) for sku in skus}
        for row in await store.for_sale(self._shared.db, list(made)):
            told = made[row["sku"]]
            told.available += row["available"]
            told.in_stock += row["in_stock"]
            told.locations.add(
                location_id=str(row["location_id"]), available=row["available"], in_stock=row["in_stock"]
            )
        return [made[sku] for sku in skus]

    async def WatchAvailability(
        self, request: pb.WatchAvailabilityRequest, call: Call
    ) -> AsyncIterator[pb.WatchAvailabilityResponse]:
        skus = list(dict.fromkeys(request.skus))
        marks = _marks(request.resume_token, len(skus))
        with self._room():
            async with self._hearing.listen(skus) as heard:
                await call.send_initial_metadata(())
                asked = list(skus)
                while True:
                    for told in await self._read(asked):
                        n = skus.index(told.sku)
                        if marks[n] != (mark := _mark(told)):
                            marks[n] = mark
                            yield pb.WatchAvailabilityResponse(availability=told, resume_token=_token(marks))
                    asked = await heard.next(HEARTBEAT_S)
                    if not asked:
                        beat = pack.stamp(self._shared.clock.now())
                        yield pb.WatchAvailabilityResponse(heartbeat=beat, resume_token=_token(marks))
                        asked = list(skus)

    @contextmanager
    def _room(self) -> Iterator[None]:
        if self._watches >= WATCHES_MAX:
            raise TooManyWatches(max=WATCHES_MAX)
        self._watches += 1
        try:
            yield
        finally:
            self._watches -= 1


def _mark(told: pb.Availability) -> bytes:
    return blake2b(told.SerializeToString(deterministic=True), digest_size=MARK_BYTES).digest()


def _token(marks: Sequence[bytes]) -> str:
    return base64.urlsafe_b64encode(b"".join(marks)).decode()


def _marks(token: str, skus: int) -> list[bytes]:
    """What was told of each; nothing fits an absent token. Raises ResumeTokenRefused."""
    if not token:
        return [b""] * skus
    try:
        raw = base64.b64decode(token, b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise ResumeTokenRefused(field="resume_token") from None
    if len(raw) != skus * MARK_BYTES:
        raise ResumeTokenRefused(field="resume_token")
    return [raw[n : n + MARK_BYTES] for n in range(0, len(raw), MARK_BYTES)]
