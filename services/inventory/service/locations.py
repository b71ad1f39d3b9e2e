"""weft.inventory.v1.LocationService."""

from uuid import UUID

from services.chassis.events import emit
from services.chassis.masks import check_etag
from services.chassis.method import Call
from services.inventory.domain.location import Location, LocationIdReused
from services.inventory.service import pack
from services.inventory.service.shared import Shared
from services.inventory.store import location as store
from weft.inventory.v1 import location_pb2 as pb
from weft.inventory.v1.events_pb2 import LocationCreated, LocationDeleted, LocationUpdated
from weft.inventory.v1.location_pb2_grpc import LocationServiceServicer


class Locations(LocationServiceServicer):
    def __init__(self, shared: Shared) -> None:
        self._shared, self._db, self._clock = shared, shared.db, shared.clock

    async def CreateLocation(
        self, request: pb.CreateLocationRequest, call: Call
    ) -> pb.CreateLocationResponse:
        now, location_id = self._clock.now(), UUID(request.location_id)
        new = Location(location_id=location_id, revision=1, created_at=now, updated_at=now)
        _apply(new, request.settings)
        async with self._db.transaction() as tx:
            if await store.add(tx, new):
                await emit(tx, LocationCreated(location_id=request.location_id))
            row = await store.get(tx, location_id)
        if pack.location(row).settings != request.settings:
            raise LocationIdReused(location_id=location_id)
        return pb.CreateLocationResponse(location=pack.location(row))

    async def GetLocation(self, request: pb.GetLocationRequest, call: Call) -> pb.GetLocationResponse:
        async with self._db.transaction() as tx:
            row = await store.get(tx, UUID(request.location_id))
        return pb.GetLocationResponse(location=pack.location(row))

    async def ListLocations(self, request: pb.ListLocationsRequest, call: Call) -> pb.ListLocationsResponse:
        page = store.LOCATIONS.page(request, self._shared.page_key)
        async with self._db.transaction() as tx:
            rows, token = await store.page(tx, page)
        return pb.ListLocationsResponse(locations=map(pack.location, rows), next_page_token=token)

    async def UpdateLocation(
        self, request: pb.UpdateLocationRequest, call: Call
    ) -> pb.UpdateLocationResponse:
        async with self._db.transaction() as tx:
            row = await store.get(tx, UUID(request.location_id), lock=True)
            check_etag(request.etag, row.revision)
            if pack.location(row).settings != request.settings:
                _apply(row, request.settings)
                row.revision, row.updated_at = row.revision + 1, self._clock.now()
                await emit(tx, LocationUpdated(location_id=request.location_id))
        return pb.UpdateLocationResponse(location=pack.location(row))

    async def DeleteLocation(
        self, request: pb.DeleteLocationRequest, call: Call
    ) -> pb.DeleteLocationResponse:
        async with self._db.transaction() as tx:
            row = await store.get(tx, UUID(request.location_id), lock=True)
            await store.delete(tx, row)
            await emit(tx, LocationDeleted(location_id=request.location_id))
        return pb.DeleteLocationResponse()


def _apply(row: Location, settings: pb.LocationSettings) -> None:
    row.name, row.priority, row.country = settings.name, settings.priority, settings.country
    row.for_sale = not settings.not_for_sale
