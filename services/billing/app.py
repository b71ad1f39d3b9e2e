"""Puts the service together."""

from collections.abc import Mapping

from services.billing.service.profiles import Profiles
from services.billing.service.shared import Shared
from services.billing.settings import PREFIX, BillingSettings
from services.chassis.config import load
from services.chassis.host import Parts, Tools
from weft.billing.v1.profile_pb2_grpc import add_BillingProfileServiceServicer_to_server


def build(tools: Tools, environ: Mapping[str, str] | None = None) -> Parts:
    settings = load(BillingSettings, environ, PREFIX)
    shared = Shared(
        db=tools.db, clock=tools.clock, mesh=tools.mesh, settings=settings, page_key=tools.settings.mesh_key
    )
    return Parts(
        servicers={
            add_BillingProfileServiceServicer_to_server: Profiles(shared),
        },
    )
