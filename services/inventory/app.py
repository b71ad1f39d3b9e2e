"""Puts the service together."""

from collections.abc import Mapping

from services.chassis.config import load
from services.chassis.host import Parts, Tools
from services.inventory.alerting import Alerting
from services.inventory.checking import Checking
from services.inventory.expiring import Expiring
from services.inventory.service.availability import AvailabilityOf
from services.inventory.service.ending import Ends
from services.inventory.service.hearing import Hearing
from services.inventory.service.holding import Holding
from services.inventory.service.locations import Locations
from services.inventory.service.reservations import Reservations
from services.inventory.service.shared import Shared
from services.inventory.service.stock import StockLevels
from services.inventory.service.transfers import Transfers
from services.inventory.service.writing import Writing
from services.inventory.settings import PREFIX, InventorySettings
from services.inventory.tidying import Tidying
from weft.inventory.v1 import (
    availability_pb2_grpc,
    location_pb2_grpc,
    reservation_pb2_grpc,
    stock_pb2_grpc,
    transfer_pb2_grpc,
)


def build(tools: Tools, environ: Mapping[str, str] | None = None) -> Parts:
    settings = load(InventorySettings, environ, PREFIX)
    writing = Writing(alerting=bool(settings.alert_address))
    ends = Ends(tools.db, tools.clock, writing)
    alerting = Alerting(tools.db, tools.mesh, tools.clock, settings, tools.modes)
    writing.on_low = alerting.poke
    shared = Shared(
        db=tools.db,
        clock=tools.clock,
        settings=settings,
        writing=writing,
        holding=Holding(tools.db, tools.clock, writing),
        ends=ends,
        page_key=tools.settings.mesh_key,
    )
    availability = AvailabilityOf(shared, Hearing(tools.bus))
    return Parts(
        servicers={
            location_pb2_grpc.add_LocationServiceServicer_to_server: Locations(shared),
            stock_pb2_grpc.add_StockServiceServicer_to_server: StockLevels(shared),
            transfer_pb2_grpc.add_TransferServiceServicer_to_server: Transfers(shared),
            reservation_pb2_grpc.add_ReservationServiceServicer_to_server: Reservations(shared),
            availability_pb2_grpc.add_AvailabilityServiceServicer_to_server: availability,
        },
        loops=[
            Expiring(tools.db, tools.clock, settings, ends).run,
            Checking(tools.db, tools.clock, settings.check_every_s).run,
            Tidying(tools.db, tools.clock, settings.history_days).run,
            *([alerting.run] if settings.alert_address else []),
        ],
    )
