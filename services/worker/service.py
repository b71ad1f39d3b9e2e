"""weft.worker.v1.WorkerService."""

from collections.abc import Callable, Mapping

from services.chassis.clock import Clock
from services.chassis.db import Database
from services.chassis.events import emit
from services.chassis.host import Tools
from services.chassis.masks import apply_mask, check_etag
from services.chassis.method import Call
from services.worker import store
from services.worker.directory import Directory
from services.worker.domain import (
    BoundsRefused,
    NothingToRun,
    Pool,
    PoolExists,
    State,
    check_bounds,
    check_modules,
)
from services.worker.pack import in_force, pool_to_pb, settings_from_json, settings_to_json
from services.worker.scaling import Seen
from services.worker.settings import WorkerSettings
from weft.worker.v1 import worker_pb2 as pb
from weft.worker.v1.events_pb2 import (
    PoolCreated,
    PoolDeleted,
    PoolDrained,
    PoolResized,
    PoolResumed,
    PoolUpdated,
)
from weft.worker.v1.worker_pb2_grpc import WorkerServiceServicer

CHANGEABLE = [field.name for field in pb.PoolSettings.DESCRIPTOR.fields]


class Workers(WorkerServiceServicer):
    def __init__(
        self,
        tools: Tools,
        settings: WorkerSettings,
        directory: Directory,
        seen: Mapping[str, Seen],
        changed: Callable[[], None],
    ) -> None:
        """`seen` is what was found last by pool; `changed` hears that a pool is other than it was."""
        self._db: Database = tools.db
        self._clock: Clock = tools.clock
        self._page_key, self._settings = tools.settings.mesh_key, settings
        self._directory, self._seen, self._changed = directory, seen, changed

    async def CreatePool(self, request: pb.CreatePoolRequest, call: Call) -> pb.CreatePoolResponse:
        settings, now = self._checked(request.settings), self._clock.now()
        row = Pool(
            pool=request.pool,
            settings=settings_to_json(settings),
            state=State.ACTIVE,
            workers_wanted=settings.scaling.workers_min,
            resize_time=now,
            revision=1,
            create_time=now,
            update_time=now,
        )
        async with self._db.transaction() as tx:
            if not await store.add(tx, row):
                raise PoolExists(pool=request.pool)
            await emit(tx, PoolCreated(pool=row.pool, workers_wanted=row.workers_wanted))
        self._changed()
        return pb.CreatePoolResponse(pool=self._packed(row))

    def _checked(self, given: pb.PoolSettings) -> pb.PoolSettings:
        """The settings in force. Raises BoundsRefused, ModuleRefused, NothingToRun."""
        settings = in_force(given)
        check_bounds(settings.scaling.workers_min, settings.scaling.workers_max)
        check_modules(settings.modules, self._settings.modules)
        if not settings.queues:
            raise NothingToRun(field="settings.queues")
        return settings

    async def GetPool(self, request: pb.GetPoolRequest, call: Call) -> pb.GetPoolResponse:
        async with self._db.transaction() as tx:
            return pb.GetPoolResponse(pool=self._packed(await store.get(tx, request.pool)))

    async def ListPools(self, request: pb.ListPoolsRequest, call: Call) -> pb.ListPoolsResponse:
        page = store.LISTING.page(request, self._page_key)
        async with self._db.transaction() as tx:
            rows, token = page.cut(await store.rows(tx, page))
        return pb.ListPoolsResponse(pools=map(self._packed, rows), next_page_token=token)

    async def UpdatePool(self, request: pb.UpdatePoolRequest, call: Call) -> pb.UpdatePoolResponse:
        async with self._db.transaction() as tx:
            row = await store.get(tx, request.pool, lock=True)
            check_etag(request.etag, row.revision)
            settings = settings_from_json(row.settings)
            fields = apply_mask(settings, request.settings, request.update_mask, CHANGEABLE)
            plain = settings_to_json(self._checked(settings))
            if plain != row.settings:
                row.change(plain, self._clock.now())
                await emit(tx, PoolUpdated(pool=row.pool, fields=fields))
        self._changed()
        return pb.UpdatePoolResponse(pool=self._packed(row))

    async def DeletePool(self, request: pb.DeletePoolRequest, call: Call) -> pb.DeletePoolResponse:
        async with self._db.transaction() as tx:
            row = await store.get(tx, request.pool, lock=True)
            check_etag(request.etag, row.revision)
            await tx.delete(row)
            await emit(tx, PoolDeleted(pool=request.pool))
        self._changed()
        return pb.DeletePoolResponse()

    async def ResizePool(self, request: pb.ResizePoolRequest, call: Call) -> pb.ResizePoolResponse:
        async with self._db.transaction() as tx:
            row = await store.get(tx, request.pool, lock=True)
            scaling, before = settings_from_json(row.settings).scaling, row.workers_wanted
            if not scaling.workers_min <= request.workers <= scaling.workers_max:
                rule = f"{request.workers} is not within {scaling.workers_min} to {scaling.workers_max}"
                raise BoundsRefused(rule=rule, field="workers")
            if row.resize(request.workers, self._clock.now()):
                resized = PoolResized(
                    pool=row.pool, workers_wanted=request.workers, workers_wanted_before=before
                )
                await emit(tx, resized)
        self._changed()
        return pb.ResizePoolResponse(pool=self._packed(row))

    async def DrainPool(self, request: pb.DrainPoolRequest, call: Call) -> pb.DrainPoolResponse:
        row = await self._turn(State.DRAINING, PoolDrained(pool=request.pool))
        return pb.DrainPoolResponse(pool=self._packed(row))

    async def ResumePool(self, request: pb.ResumePoolRequest, call: Call) -> pb.ResumePoolResponse:
        row = await self._turn(State.ACTIVE, PoolResumed(pool=request.pool))
        return pb.ResumePoolResponse(pool=self._packed(row))

    async def _turn(self, state: State, event: PoolDrained | PoolResumed) -> Pool:
        async with self._db.transaction() as tx:
            row = await store.get(tx, event.pool, lock=True)
            if row.turn(state, self._clock.now()):
                await emit(tx, event)
        self._changed()
        return row

    async def ListWorkers(self, request: pb.ListWorkersRequest, call: Call) -> pb.ListWorkersResponse:
        return pb.ListWorkersResponse(workers=self._directory.workers(request.pool))

    def _packed(self, row: Pool) -> pb.Pool:
        return pool_to_pb(row, self._seen.get(row.pool), self._directory.workers(row.pool))
