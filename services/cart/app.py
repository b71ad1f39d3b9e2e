"""Puts the service together."""

from collections.abc import Mapping

from services.cart import events
from services.cart.checkout import Checkouts
from services.cart.service.carts import Carts
from services.cart.settings import PREFIX, CartSettings
from services.cart.showing import Showing
from services.cart.tidying import Tidying
from services.chassis.config import load
from services.chassis.host import Parts, Tools
from weft.cart.v1.cart_pb2_grpc import add_CartServiceServicer_to_server
from weft.identity.v1.events_pb2 import UserDeleted


def build(tools: Tools, environ: Mapping[str, str] | None = None) -> Parts:
    settings = load(CartSettings, environ, PREFIX)
    checkouts = Checkouts(tools.db, tools.mesh, tools.clock, settings)
    carts = Carts(tools, Showing(tools.mesh), checkouts, settings)
    return Parts(
        servicers={add_CartServiceServicer_to_server: carts},
        consumers={UserDeleted: events.user_deleted},
        loops=[checkouts.run, Tidying(tools.db, tools.clock, settings).run],
    )
