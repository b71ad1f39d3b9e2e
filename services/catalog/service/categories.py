"""weft.catalog.v1.CategoryService."""

from services.catalog.service.category_import import ImportsCategories
from services.catalog.service.shared import Shared
from services.catalog.service.tree import TreeOf
from weft.catalog.v1.category_pb2_grpc import CategoryServiceServicer


class Categories(TreeOf, ImportsCategories, CategoryServiceServicer):
    """Its rpcs stand by what they do: one category, or a whole tree."""

    def __init__(self, shared: Shared) -> None:
        for part in (TreeOf, ImportsCategories):
            part.__init__(self, shared)
