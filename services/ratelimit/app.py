"""Puts the service together."""

from collections.abc import Mapping

from envoy.service.ratelimit.v3.rls_pb2_grpc import add_RateLimitServiceServicer_to_server as add_decider
from services.chassis.config import load
from services.chassis.host import Parts, Tools
from services.ratelimit.domain.limit import Edge
from services.ratelimit.events import forget
from services.ratelimit.service.deciding import Decider
from services.ratelimit.service.limits import RateLimits
from services.ratelimit.service.rules import Rules
from services.ratelimit.service.shared import Shared
from services.ratelimit.service.upkeep import Upkeep
from services.ratelimit.settings import PREFIX, RatelimitSettings
from weft.identity.v1.events_pb2 import UserDeleted
from weft.ratelimit.v1.ratelimit_pb2_grpc import add_RateLimitServiceServicer_to_server


def build(tools: Tools, environ: Mapping[str, str] | None = None) -> Parts:
    settings = load(RatelimitSettings, environ, PREFIX)
    edge = Edge(closed=settings.closed, headers=settings.headers)
    shared = Shared(db=tools.db, clock=tools.clock, edge=edge, page_key=tools.settings.mesh_key)
    rules = Rules(tools.db, tools.clock)
    decider = Decider(tools.db, tools.clock, rules)
    return Parts(
        servicers={
            add_RateLimitServiceServicer_to_server: RateLimits(shared),
            add_decider: decider,
        },
        consumers={UserDeleted: forget},
        loops=[rules.run, decider.run, Upkeep(tools.db, tools.clock).run],
    )
