"""What the catalog refuses."""

from services.chassis.errors import Aborted, AlreadyExists, FailedPrecondition, InvalidArgument, NotFound


class UnknownProduct(NotFound):
    """There is no product {product_id}."""


class UnknownVariant(NotFound):
    """There is no variant {sku}."""


class UnknownPrice(NotFound):
    """{sku} has no list price in {currency} that begins so."""


class UnknownSlug(NotFound):
    """No product is or was called {slug}."""


class UnknownCategory(NotFound):
    """There is no category {category_id}."""


class UnknownProductType(NotFound):
    """There is no product type {product_type_id}."""


class UnknownImport(NotFound):
    """There was no import {import_id}."""


class ProductIdReused(AlreadyExists):
    """Product {product_id} was created by another request."""


class CategoryIdReused(AlreadyExists):
    """Category {category_id} is there, with another parent or content."""


class ProductTypeIdReused(AlreadyExists):
    """Product type {product_type_id} is there with other content."""


class ImportIdReused(AlreadyExists):
    """Import {import_id} was one of {kind}."""


class SlugTaken(AlreadyExists):
    """The slug {slug} leads to product {product_id}."""


class SkuTaken(AlreadyExists):
    """The sku {sku} is one of product {product_id}, or was when that was published."""


class VariantExists(AlreadyExists):
    """The product has a variant {sku} that says something else."""


class ProductGone(FailedPrecondition):
    """Product {product_id} was deleted; its id is not used again."""


class IllegalTransition(FailedPrecondition):
    """A product that is {state} does not become {to}."""


class NotPublishable(FailedPrecondition):
    """Product {product_id} cannot be for sale so: {why}"""


class TooManyVariants(FailedPrecondition):
    """A product has at most {max} variants."""


class TooManyPrices(FailedPrecondition):
    """A variant has at most {max} list prices."""


class CategoryCycle(FailedPrecondition):
    """Category {category_id} cannot hang below {parent_id}, which is itself or hangs below it."""


class CategoryInUse(FailedPrecondition):
    """Category {category_id} has {what}."""


class ProductTypeInUse(FailedPrecondition):
    """Product type {product_type_id} is named by {what}."""


class ImportRunning(Aborted):
    """Import {import_id} is at row {rows_done} by another stream."""


class AttributeRefused(InvalidArgument):
    """Attribute {key}: {why}"""

    def __init__(self, key: str, why: str) -> None:
        super().__init__(key=key, why=why, field="attributes")


class DefinitionRefused(InvalidArgument):
    """Definition of {key}: {why}"""

    def __init__(self, key: str, why: str) -> None:
        super().__init__(key=key, why=why, field="content.attributes")


class PriceRefused(InvalidArgument):
    """The price of {sku}: {why}"""

    def __init__(self, sku: str, why: str) -> None:
        super().__init__(sku=sku, why=why, field="price")


class GtinRefused(InvalidArgument):
    """{gtin} is no GTIN: its check digit is {digit}."""

    def __init__(self, gtin: str, digit: int) -> None:
        super().__init__(gtin=gtin, digit=digit, field="gtin")


class SkuRepeated(InvalidArgument):
    """The sku {sku} comes twice."""


class ProductTooLarge(InvalidArgument):
    """What the product says of itself takes {size} bytes; {max} are kept."""


class SearchRefused(InvalidArgument):
    """{field}: {why}"""


class ImportRefused(InvalidArgument):
    """The import cannot be read: {why}"""


class WrongColumns(InvalidArgument):
    """The header is not that of a catalog: {why}"""


class LineRefused(InvalidArgument):
    """The line cannot be read: {why}"""


class CellRefused(InvalidArgument):
    """Column {column}: {why}"""

    def __init__(self, column: str, why: str) -> None:
        super().__init__(column=column, why=why, field=column)
