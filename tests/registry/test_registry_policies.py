"""Traffic policies through gRPC, and clients of discovery spoken to by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.service.discovery.v3.ads_pb2_grpc import AggregatedDiscoveryServiceStub
from envoy.service.discovery.v3.discovery_pb2 import (
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
    DiscoveryRequest,
)
from services.chassis.testing import WAIT_S, broken_fields, until
from services.registry.domain.resource import CDS, EDS
from tests.registry.mesh import Mesh, refused
from weft.registry.v1 import registry_pb2 as pb, traffic_policy_pb2 as policies

SHARES = {"shares": [{"version": "1", "weight": 90}, {"version": "2", "weight": 10}]}


async def test_a_policy_is_set_got_replaced_and_deleted(mesh: Mesh) -> None:
    made = await mesh.set_policy("policed", **SHARES)
    assert await mesh.set_policy("policed", **SHARES) == made
    get = policies.GetTrafficPolicyRequest(service="policed")
    assert (await mesh.policies.GetTrafficPolicy(get, metadata=mesh.lab.bearer())).policy == made
    changed = await mesh.set_policy("policed", made.etag, zones=["a", "b"])
    assert list(changed.settings.zones) == ["a", "b"]
    late = mesh.set_policy("policed", made.etag, **SHARES)
    assert await refused(late) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    delete = policies.DeleteTrafficPolicyRequest(service="policed", etag=changed.etag)
    await mesh.policies.DeleteTrafficPolicy(delete, metadata=mesh.lab.bearer())
    gone = mesh.policies.GetTrafficPolicy(get, metadata=mesh.lab.bearer())
    assert await refused(gone) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_TRAFFIC_POLICY")
    told = ["TrafficPolicyChanged", "TrafficPolicyChanged", "TrafficPolicyDeleted"]
    assert await mesh.announced("policed") == told


async def test_policies_are_listed_by_service(mesh: Mesh) -> None:
    for service in ("listed-b", "listed-a"):
        await mesh.set_policy(service)
    request = policies.ListTrafficPoliciesRequest(page_size=200)
    found = await mesh.policies.ListTrafficPolicies(request, metadata=mesh.lab.bearer())
    names = [each.service for each in found.policies]
    assert names == sorted(names)
    assert {"listed-a", "listed-b"} <= set(names)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"shares": [{"version": "1", "weight": 1}, {"version": "1", "weight": 2}]}, "settings"),
        ({"shares": [{"version": "1", "weight": 0}]}, "settings"),
        (
            {"header_rules": [{"header": "X-Canary", "value": "1", "version": "2"}]},
            "settings.header_rules[0].header",
        ),
        (
            {"balancing": {"ring_hash": {"header": "x"}, "slow_start": Duration(seconds=5)}},
            "settings.balancing",
        ),
    ],
    ids=["a version twice", "nothing for anybody", "upper case", "a slow ring"],
)
async def test_a_policy_that_says_nothing_clear_is_refused(mesh: Mesh, settings: Any, field: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await mesh.set_policy("unclear", **settings)
    assert set(broken_fields(error.value)) == {field}


class Talk:
    """A client of discovery by delta, one type."""

    def __init__(self, mesh: Mesh, node: str) -> None:
        self._queue: asyncio.Queue[DeltaDiscoveryRequest] = asyncio.Queue()
        self._node = node
        stub = AggregatedDiscoveryServiceStub(mesh.lab.channel)
        self.call = stub.DeltaAggregatedResources(self._requests(), timeout=WAIT_S)
        self._answers = aiter(self.call)

    async def _requests(self) -> AsyncIterator[DeltaDiscoveryRequest]:
        while True:
            yield await self._queue.get()

    def say(self, **request: Any) -> None:
        node = {"id": self._node, "user_agent_name": "envoy"}
        self._queue.put_nowait(DeltaDiscoveryRequest(node=node, type_url=CDS, **request))

    async def until_named(self, name: str) -> DeltaDiscoveryResponse:
        """The answer that tells of a resource; those before it are accepted."""
        while True:
            answer = await anext(self._answers)
            if name in {each.name for each in answer.resources}:
                return answer
            self.say(response_nonce=answer.nonce)


async def rejections(mesh: Mesh, node: str) -> list[pb.Rejection]:
    request = pb.ListRejectionsRequest(filter=f'node_id = "{node}"')
    return list((await mesh.registry.ListRejections(request, metadata=mesh.lab.bearer())).rejections)


async def test_who_refuses_what_and_why_is_listed_until_it_is_accepted(mesh: Mesh) -> None:
    await mesh.register("refusing")
    talk = Talk(mesh, "sulking")
    talk.say()
    answer = await talk.until_named("refusing")
    talk.say(response_nonce=answer.nonce, error_detail={"code": 3, "message": "no\x00 such thing"})
    await until(lambda: rejections(mesh, "sulking"))
    [rejection] = await rejections(mesh, "sulking")
    assert (rejection.type_url, rejection.message, rejection.times) == (CDS, "no  such thing", 1)
    assert rejection.version == answer.system_version_info
    await mesh.set_policy("refusing", balancing={"least_request": {}})
    answer = await talk.until_named("refusing")
    talk.say(response_nonce=answer.nonce)

    async def none() -> bool:
        return not await rejections(mesh, "sulking")

    await until(none)
    talk.call.cancel()
    assert await mesh.announced("sulking") == ["ConfigurationRejected", "ConfigurationAccepted"]


async def test_a_client_of_grpc_is_told_otherwise_than_an_envoy(mesh: Mesh) -> None:
    await mesh.set_policy("kinds", balancing={"least_request": {}})
    stub = AggregatedDiscoveryServiceStub(mesh.lab.channel)
    told = {}
    for agent in ("envoy", "gRPC C-core"):
        request = DiscoveryRequest(type_url=CDS, resource_names=["kinds"])
        request.node.id, request.node.user_agent_name = agent, agent
        call = stub.StreamAggregatedResources(timeout=WAIT_S)
        await call.write(request)
        while not (answer := await call.read()).resources:  # What was just committed may come later.
            request.version_info, request.response_nonce = answer.version_info, answer.nonce
            await call.write(request)
        told[agent] = Cluster.FromString(answer.resources[0].value).lb_policy
        call.cancel()
    assert told == {"envoy": Cluster.LEAST_REQUEST, "gRPC C-core": Cluster.ROUND_ROBIN}


async def test_a_stream_of_nonsense_ends_nothing_but_itself(mesh: Mesh) -> None:
    stub = AggregatedDiscoveryServiceStub(mesh.lab.channel)
    call = stub.StreamAggregatedResources(timeout=WAIT_S)
    for n in range(100):
        nonsense = DiscoveryRequest(type_url="nothing", response_nonce=str(n), resource_names=["x"] * n)
        await call.write(nonsense)
        await call.write(DiscoveryRequest(type_url=EDS, response_nonce=str(n), error_detail={"message": "?"}))
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
