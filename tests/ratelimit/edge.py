"""What an edge asks of ratelimit, and an operator."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import grpc
import pytest

from envoy.service.ratelimit.v3 import rls_pb2
from envoy.service.ratelimit.v3.rls_pb2_grpc import RateLimitServiceStub as DeciderStub
from services.chassis.testing import Lab, reason
from services.ratelimit.service.deciding import Decider
from weft.ratelimit.v1 import ratelimit_pb2 as pb
from weft.ratelimit.v1.ratelimit_pb2_grpc import RateLimitServiceStub

CLOSED, HEADER = "weft.vault.", "x-tenant"
OK, OVER = rls_pb2.RateLimitResponse.OK, rls_pb2.RateLimitResponse.OVER_LIMIT


def request(hits: int = 0, **said: str) -> rls_pb2.RateLimitRequest:
    """As an edge makes it; `header_x_tenant` is the entry `header:x-tenant`."""
    made = rls_pb2.RateLimitRequest(domain="weft", hits_addend=hits)
    descriptor = made.descriptors.add()
    for key, value in said.items():
        name = f"header:{key[7:].replace('_', '-')}" if key.startswith("header_") else key
        descriptor.entries.add(key=name, value=value)
    return made


@dataclass
class Edge:
    """An edge before a service under test."""

    lab: Lab
    servicer: Decider
    stub: Any = field(init=False)
    decider: Any = field(init=False)

    def __post_init__(self) -> None:
        self.stub = RateLimitServiceStub(self.lab.channel)
        self.decider = DeciderStub(self.lab.channel)  # type: ignore[no-untyped-call]

    async def ask(self, hits: int = 0, **said: str) -> Any:
        return await self.decider.ShouldRateLimit(request(hits, **said))

    async def passes(self, **said: str) -> bool:
        answer = await self.ask(**said)
        assert answer.overall_code in (OK, OVER)
        return bool(answer.overall_code == OK)

    async def make(self, name: str, prefix: str, **settings: Any) -> pb.RateLimit:
        """A limit of the calls of one rpc; three an hour for each user unless it is said otherwise."""
        values = {"key": pb.KEY_KIND_USER, "unit": pb.UNIT_HOUR, "requests": 3, **settings}
        match = {"prefix": prefix, **values.pop("match", {})}
        made = pb.RateLimitSettings(name=name, match=match, **values)
        asked = pb.CreateRateLimitRequest(rate_limit_id=str(uuid4()), settings=made)
        return (await self.stub.CreateRateLimit(asked, metadata=self.lab.bearer())).rate_limit

    async def usage(self, rate_limit_id: str) -> dict[str, tuple[int, int, int]]:
        """Used, limit and refused by key."""
        asked = pb.ListUsageRequest(rate_limit_id=rate_limit_id)
        found = await self.stub.ListUsage(asked, metadata=self.lab.bearer())
        return {each.key: (each.used, each.limit, each.refused) for each in found.usage}

    async def announced(self, rate_limit_id: str) -> list[str]:
        rows = await self.lab.db("ratelimit").fetch(
            "select type from event where key = $1 order by position", rate_limit_id
        )
        return [row["type"].rpartition(".")[2] for row in rows]


async def refused(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return error.value.code(), reason(error.value)
