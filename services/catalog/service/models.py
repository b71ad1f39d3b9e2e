"""weft.catalog.v1.ReadModelService."""

from services.catalog import projecting
from services.catalog.service.shared import Shared
from services.chassis.method import Call
from services.chassis.projections import rebuild
from weft.catalog.v1 import read_model_pb2 as pb
from weft.catalog.v1.read_model_pb2_grpc import ReadModelServiceServicer

PROJECTIONS = {
    pb.READ_MODEL_PRODUCTS: projecting.PRODUCTS,
    pb.READ_MODEL_CATEGORIES: projecting.CATEGORIES,
    pb.READ_MODEL_PRODUCT_TYPES: projecting.TYPES,
}


class ReadModels(ReadModelServiceServicer):
    def __init__(self, shared: Shared) -> None:
        self._db = shared.db

    async def RebuildReadModel(
        self, request: pb.RebuildReadModelRequest, call: Call
    ) -> pb.RebuildReadModelResponse:
        position = await rebuild(self._db, PROJECTIONS[request.model])
        return pb.RebuildReadModelResponse(position=position)
