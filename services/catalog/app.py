"""Puts the service together."""

from services.catalog import events
from services.catalog.service.categories import Categories
from services.catalog.service.models import ReadModels
from services.catalog.service.products import Products
from services.catalog.service.shared import Shared
from services.catalog.service.types import ProductTypes
from services.chassis.host import Parts, Tools
from weft.catalog.v1.category_pb2_grpc import add_CategoryServiceServicer_to_server
from weft.catalog.v1.product_pb2_grpc import add_ProductServiceServicer_to_server
from weft.catalog.v1.product_type_pb2_grpc import add_ProductTypeServiceServicer_to_server
from weft.catalog.v1.read_model_pb2_grpc import add_ReadModelServiceServicer_to_server
from weft.inventory.v1.events_pb2 import StockUpdated


def build(tools: Tools) -> Parts:
    shared = Shared.of(tools)
    return Parts(
        servicers={
            add_ProductServiceServicer_to_server: Products(shared),
            add_CategoryServiceServicer_to_server: Categories(shared),
            add_ProductTypeServiceServicer_to_server: ProductTypes(shared),
            add_ReadModelServiceServicer_to_server: ReadModels(shared),
        },
        consumers={StockUpdated: events.MIRRORING},
    )
