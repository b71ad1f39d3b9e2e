"""A registry under test, and what its tests ask of it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from services.chassis.testing import Lab, reason
from weft.registry.v1 import fault_pb2, registry_pb2 as pb, rollout_pb2, traffic_policy_pb2
from weft.registry.v1.fault_pb2_grpc import FaultServiceStub
from weft.registry.v1.instance_pb2 import Instance, InstanceSettings
from weft.registry.v1.registry_pb2_grpc import RegistryServiceStub
from weft.registry.v1.rollout_pb2_grpc import RolloutServiceStub
from weft.registry.v1.traffic_policy_pb2_grpc import TrafficPolicyServiceStub

LISTENER = "WEFT_REGISTRY_LISTENER"
LONG = Duration(seconds=300)  # No test lasts so long that a lease ends by itself.
_numbers = itertools.count(1)


@dataclass
class Mesh:
    """The registry, and where Envoys open the mesh's listener."""

    lab: Lab
    listener: str
    registry: Any = field(init=False)
    policies: Any = field(init=False)
    faults: Any = field(init=False)
    rollouts: Any = field(init=False)

    def __post_init__(self) -> None:
        self.registry = RegistryServiceStub(self.lab.channel)
        self.policies = TrafficPolicyServiceStub(self.lab.channel)
        self.faults = FaultServiceStub(self.lab.channel)
        self.rollouts = RolloutServiceStub(self.lab.channel)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.lab.hosted.port}"

    async def register(self, service: str, instance_id: str = "", **settings: Any) -> Instance:
        """With an address of its own unless it is given one."""
        settings = {"address": "127.0.0.1", "port": next(_numbers), "lease": LONG, **settings}
        request = pb.RegisterInstanceRequest(
            instance_id=instance_id or str(uuid4()), settings=InstanceSettings(service=service, **settings)
        )
        return (await self.registry.RegisterInstance(request, metadata=self.lab.bearer())).instance

    async def renew(self, instance_id: str, health: Any = 0) -> Instance:
        request = pb.RenewInstanceRequest(instance_id=instance_id, health=health)
        return (await self.registry.RenewInstance(request, metadata=self.lab.bearer())).instance

    async def deregister(self, instance_id: str) -> None:
        request = pb.DeregisterInstanceRequest(instance_id=instance_id)
        await self.registry.DeregisterInstance(request, metadata=self.lab.bearer())

    async def listed(self, filter: str, **rest: Any) -> list[Instance]:
        """All pages of a search."""
        request, found = pb.ListInstancesRequest(filter=filter, **rest), []
        while True:
            page = await self.registry.ListInstances(request, metadata=self.lab.bearer())
            found += page.instances
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token

    async def set_policy(self, service: str, etag: str = "", **settings: Any) -> Any:
        policy = traffic_policy_pb2.TrafficPolicySettings(**settings)
        request = traffic_policy_pb2.SetTrafficPolicyRequest(service=service, settings=policy, etag=etag)
        return (await self.policies.SetTrafficPolicy(request, metadata=self.lab.bearer())).policy

    async def switch(self, service: str, old: str, new: str) -> Any:
        request = traffic_policy_pb2.SwitchVersionRequest(service=service, from_version=old, to_version=new)
        return (await self.policies.SwitchVersion(request, metadata=self.lab.bearer())).policy

    async def begin_fault(self, fault_id: str = "", **settings: Any) -> Any:
        """For as long as a test lasts, unless it is said otherwise."""
        given = fault_pb2.FaultSettings(**{"lifetime": LONG, **settings})
        request = fault_pb2.BeginFaultRequest(fault_id=fault_id or str(uuid4()), settings=given)
        return (await self.faults.BeginFault(request, metadata=self.lab.bearer())).fault

    async def end_fault(self, fault_id: str) -> None:
        request = fault_pb2.EndFaultRequest(fault_id=fault_id)
        await self.faults.EndFault(request, metadata=self.lab.bearer())

    async def start_rollout(self, rollout_id: str = "", **settings: Any) -> Any:
        given = rollout_pb2.RolloutSettings(**settings)
        request = rollout_pb2.StartRolloutRequest(rollout_id=rollout_id or str(uuid4()), settings=given)
        return (await self.rollouts.StartRollout(request, metadata=self.lab.bearer())).rollout

    async def end_lease(self, instance_id: str) -> None:
        """As if its time had passed."""
        ended = "update instance set expires_at = clock_timestamp() - interval '1 s' where instance_id = $1"
        await self.lab.db("registry").execute(ended, UUID(instance_id))

    async def announced(self, key: str) -> list[str]:
        """Names of the events of one key, in order."""
        rows = await self.lab.db("registry").fetch(
            "select type from event where key = $1 order by position", key
        )
        return [row["type"].rpartition(".")[2] for row in rows]


async def refused(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return error.value.code(), reason(error.value)
