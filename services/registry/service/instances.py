"""weft.registry.v1.RegistryService."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID

from services.chassis.clock import uuid7
from services.chassis.events import announcement, emit
from services.chassis.method import Call
from services.registry.domain.instance import Instance
from services.registry.service import pack
from services.registry.service.registering import Registering, Registration
from services.registry.service.shared import Shared
from services.registry.store import instance as store, rejection as rejections, state
from weft.registry.v1 import instance_pb2, registry_pb2 as pb
from weft.registry.v1.events_pb2 import InstanceDeregistered, InstanceHealthChanged, InstanceRegistered
from weft.registry.v1.registry_pb2_grpc import RegistryServiceServicer

HEARTBEAT_S = 15.0
ONE_VIEW = "REPEATABLE READ"


class Instances(RegistryServiceServicer):
    def __init__(self, shared: Shared) -> None:
        self._shared, self._registering = shared, Registering(shared.db)

    async def RegisterInstance(
        self, request: pb.RegisterInstanceRequest, call: Call
    ) -> pb.RegisterInstanceResponse:
        columns, now = pack.columns(request.settings), self._shared.clock.now()
        event = InstanceRegistered(
            instance_id=request.instance_id,
            service=columns["service"],
            version=columns["version"],
            zone=columns["zone"],
        )
        wanted = Registration(
            instance_id=UUID(request.instance_id),
            health=pack.health(request.health),
            columns=columns,
            event=announcement(event, uuid7(now), now),
        )
        return pb.RegisterInstanceResponse(instance=pack.instance(await self._registering.do(wanted)))

    async def RenewInstance(self, request: pb.RenewInstanceRequest, call: Call) -> pb.RenewInstanceResponse:
        instance_id, health = UUID(request.instance_id), pack.health(request.health)
        row = await store.renew(self._shared.db, instance_id, health)
        if row is None:
            row = await self._change(instance_id, health)
        return pb.RenewInstanceResponse(instance=pack.instance(row))

    async def _change(self, instance_id: UUID, health: str) -> Instance:
        """Renews an instance whose health is another one. Raises UnknownInstance."""
        async with self._shared.db.transaction() as tx:
            order = await state.locked(tx)
            row = await store.get(tx, instance_id, lock=True)
            if health and row.health != health:
                row.health, row.revision = health, order.next()
                state.tell(tx, row.revision, row.service, pack.told(row))
                event = InstanceHealthChanged(instance_id=str(row.instance_id), service=row.service)
                event.health = instance_pb2.Health.Value(f"HEALTH_{health}")
                await emit(tx, event)
            row.expires_at = await state.clock(tx) + row.lease
        return row

    async def DeregisterInstance(
        self, request: pb.DeregisterInstanceRequest, call: Call
    ) -> pb.DeregisterInstanceResponse:
        async with self._shared.db.transaction() as tx:
            order = await state.locked(tx)
            row = await store.get(tx, UUID(request.instance_id), lock=True)
            await tx.delete(row)
            state.tell(tx, order.next(), row.service, pack.told(row), gone=True)
            await emit(tx, InstanceDeregistered(instance_id=request.instance_id, service=row.service))
        return pb.DeregisterInstanceResponse()

    async def GetInstance(self, request: pb.GetInstanceRequest, call: Call) -> pb.GetInstanceResponse:
        async with self._shared.db.transaction() as tx:
            row = await store.get(tx, UUID(request.instance_id))
        return pb.GetInstanceResponse(instance=pack.instance(row))

    async def ListInstances(self, request: pb.ListInstancesRequest, call: Call) -> pb.ListInstancesResponse:
        page = store.INSTANCES.page(request, self._shared.page_key)
        async with self._shared.db.transaction() as tx:
            rows, token = await store.page(tx, page)
        return pb.ListInstancesResponse(instances=map(pack.instance, rows), next_page_token=token)

    async def WatchInstances(
        self, request: pb.WatchInstancesRequest, call: Call
    ) -> AsyncIterator[pb.WatchInstancesResponse]:
        feed, after = self._shared.feed, request.after_revision
        with self._shared.room.one(), feed.listening():
            await call.send_initial_metadata(())
            if not request.HasField("after_revision"):
                async with self._shared.db.transaction(ONE_VIEW) as tx:
                    after, rows = await store.present(tx, request.service)
                for row in rows:
                    there = instance_pb2.Instance.FromString(pack.told(row))
                    yield pb.WatchInstancesResponse(present=there)
                yield self._beat(after)
            while True:
                async with self._shared.db.transaction(ONE_VIEW) as tx:
                    changes, known = await state.changes(tx, after, request.service)
                for change in changes:
                    told = instance_pb2.Instance.FromString(change.body)
                    yield pb.WatchInstancesResponse(
                        revision=change.revision,
                        gone=told if change.gone else None,
                        present=None if change.gone else told,
                    )
                after = known
                if not changes and not await feed.beyond(after, HEARTBEAT_S):
                    yield self._beat(after)

    def _beat(self, revision: int) -> pb.WatchInstancesResponse:
        now = pack.stamp(self._shared.clock.now())
        return pb.WatchInstancesResponse(revision=revision, heartbeat=now)

    async def ListRejections(
        self, request: pb.ListRejectionsRequest, call: Call
    ) -> pb.ListRejectionsResponse:
        page = rejections.REJECTIONS.page(request, self._shared.page_key)
        async with self._shared.db.transaction() as tx:
            rows, token = await rejections.page(tx, page)
        return pb.ListRejectionsResponse(rejections=map(pack.rejection, rows), next_page_token=token)
