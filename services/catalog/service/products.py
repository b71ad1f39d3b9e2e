"""weft.catalog.v1.ProductService."""

from services.catalog.service.commands import Commands
from services.catalog.service.csv_import import ImportsCsv
from services.catalog.service.reads import Reads
from services.catalog.service.searching import Searching
from services.catalog.service.shared import Shared
from services.catalog.service.transfers import Transfers
from weft.catalog.v1.product_pb2_grpc import ProductServiceServicer

PARTS = (Reads, Searching, Commands, Transfers, ImportsCsv)


class Products(Reads, Searching, Commands, Transfers, ImportsCsv, ProductServiceServicer):
    """Its rpcs stand by what they do: reading, finding, changing, moving many."""

    def __init__(self, shared: Shared) -> None:
        for part in PARTS:
            part.__init__(self, shared)
