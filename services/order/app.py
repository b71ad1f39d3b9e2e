"""Puts the service together."""

from collections.abc import Mapping

from services.chassis.config import load
from services.chassis.host import Parts, Tools
from services.chassis.saga_runner import Sagas
from services.order.checkout import Checkout
from services.order.events import Payments, forget, late_payment
from services.order.exchanging import Exchanges
from services.order.mailing import Mailer
from services.order.paying import Paying
from services.order.placing import Placing
from services.order.refunding import Refunds
from services.order.sealing import Sealing
from services.order.service.fulfilments import Fulfilments
from services.order.service.imports import Imports
from services.order.service.orders import Orders
from services.order.service.processes import Processes
from services.order.service.returns import Returns
from services.order.service.shared import Shared
from services.order.service.shipments import Shipments
from services.order.service.watching import Watchers
from services.order.settings import PREFIX, OrderSettings
from services.order.settling import Settling
from services.order.shipping import Shipping
from services.order.stocking import Stocking
from weft.identity.v1.events_pb2 import UserDeleted
from weft.order.v1 import (
    fulfilment_pb2_grpc,
    import_pb2_grpc,
    order_pb2_grpc,
    process_pb2_grpc,
    return_pb2_grpc,
    shipment_pb2_grpc,
)


def build(tools: Tools, environ: Mapping[str, str] | None = None) -> Parts:
    settings = load(OrderSettings, environ, PREFIX)
    shared = _share(tools, settings)
    return Parts(
        servicers={
            order_pb2_grpc.add_OrderServiceServicer_to_server: Orders(shared, Watchers(tools.db, tools.bus)),
            shipment_pb2_grpc.add_ShipmentServiceServicer_to_server: Shipments(shared),
            return_pb2_grpc.add_ReturnServiceServicer_to_server: Returns(shared),
            fulfilment_pb2_grpc.add_FulfilmentServiceServicer_to_server: Fulfilments(shared),
            import_pb2_grpc.add_OrderImportServiceServicer_to_server: Imports(shared),
            process_pb2_grpc.add_OrderProcessServiceServicer_to_server: Processes(shared),
        },
        consumers={**Payments(shared.sagas, tools.clock).consumers(), UserDeleted: forget},
        loops=[shared.sagas.run],
    )


def _share(tools: Tools, settings: OrderSettings) -> Shared:
    sealing, settling = Sealing(settings.key or tools.settings.mesh_key), Settling()
    paying, stocking = Paying(tools.mesh, tools.settings.edge_url), Stocking(tools.mesh)
    mailer = Mailer(tools.db, tools.mesh, on=settings.mails)
    refunds = Refunds(tools.db, tools.clock, paying, stocking)
    shipping = Shipping(tools.db, tools.clock, paying, mailer)
    exchanges = Exchanges(refunds)
    means = (paying, stocking, mailer, sealing, settling)
    checkout = Checkout(tools.db, tools.clock, settings, means, exchanges)
    kinds = [checkout.saga(), refunds.saga(), shipping.saga(), late_payment(paying)]
    sagas = Sagas(tools.db, tools.clock, kinds, tools.name)
    refunds.sagas = shipping.sagas = sagas
    return Shared(
        db=tools.db,
        clock=tools.clock,
        settings=settings,
        settling=settling,
        sagas=sagas,
        placing=Placing(tools.mesh, tools.clock),
        sealing=sealing,
        shipping=shipping,
        refunds=refunds,
        exchanges=exchanges,
        stocking=stocking,
        page_key=tools.settings.mesh_key,
    )
