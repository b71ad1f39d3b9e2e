"""Puts the service together."""

from collections.abc import Mapping

from envoy.service.discovery.v3.ads_pb2_grpc import add_AggregatedDiscoveryServiceServicer_to_server
from envoy.service.secret.v3.sds_pb2_grpc import add_SecretDiscoveryServiceServicer_to_server
from services.chassis.config import load
from services.chassis.host import Parts, Tools
from services.registry.board import Board
from services.registry.envoys import Envoys
from services.registry.feed import Feed
from services.registry.service.certificates import Certificates
from services.registry.service.discovery import Discovery
from services.registry.service.faults import Faults
from services.registry.service.graph import Graphs
from services.registry.service.instances import Instances
from services.registry.service.rollouts import Rollouts
from services.registry.service.secrets import Secrets
from services.registry.service.shared import Shared
from services.registry.service.traffic_policies import TrafficPolicies
from services.registry.settings import PREFIX, RegistrySettings
from services.registry.signing import Authorities
from services.registry.steward import Steward
from services.registry.sweeping import Sweeper
from weft.registry.v1 import (
    certificate_pb2_grpc,
    fault_pb2_grpc,
    graph_pb2_grpc,
    registry_pb2_grpc,
    rollout_pb2_grpc,
    traffic_policy_pb2_grpc,
)


def build(tools: Tools, environ: Mapping[str, str] | None = None) -> Parts:
    settings = load(RegistrySettings, environ, PREFIX)
    feed = Feed(tools.db)
    board = Board(tools.db, feed, settings.listener, settings.plain)
    shared = Shared(db=tools.db, clock=tools.clock, feed=feed, page_key=tools.settings.mesh_key)
    authorities = Authorities(settings, tools.settings.mesh_key)
    return Parts(
        servicers={
            registry_pb2_grpc.add_RegistryServiceServicer_to_server: Instances(shared),
            graph_pb2_grpc.add_GraphServiceServicer_to_server: Graphs(shared, settings.envoy_metrics),
            traffic_policy_pb2_grpc.add_TrafficPolicyServiceServicer_to_server: TrafficPolicies(shared),
            certificate_pb2_grpc.add_CertificateServiceServicer_to_server: Certificates(shared, authorities),
            fault_pb2_grpc.add_FaultServiceServicer_to_server: Faults(shared),
            rollout_pb2_grpc.add_RolloutServiceServicer_to_server: Rollouts(shared),
            add_SecretDiscoveryServiceServicer_to_server: Secrets(shared, authorities),
            add_AggregatedDiscoveryServiceServicer_to_server: Discovery(shared, board),
        },
        loops=[
            feed.run,
            board.run,
            Sweeper(tools.db, tools.clock).run,
            Steward(tools.db, tools.clock, Envoys(settings.stats)).run,
        ],
    )
