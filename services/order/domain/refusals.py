"""Why order refuses."""

from services.chassis.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound


class UnknownOrder(NotFound):
    """There is no order {order_id}."""


class UnknownShipment(NotFound):
    """The order {order_id} has no shipment {shipment_id}."""


class UnknownReturn(NotFound):
    """The order {order_id} has no return {return_id}."""


class UnknownSku(NotFound):
    """Nothing is called {sku}."""


class OrderIdReused(AlreadyExists):
    """Order {order_id} was made by another request."""


class ShipmentIdReused(AlreadyExists):
    """Shipment {shipment_id} was made by another request."""


class ReturnIdReused(AlreadyExists):
    """Return {return_id} was made by another request."""


class RefundIdReused(AlreadyExists):
    """Refund {refund_id} was made by another request."""


class LineTwice(InvalidArgument):
    """The line {line_id} is named twice."""


class UnknownLine(InvalidArgument):
    """The order has no line {line_id}."""


class OrderTooLarge(InvalidArgument):
    """The lines of order {order_id} are more than one order can have."""


class NoWords(InvalidArgument):
    """The text has no word to search by."""


class UnknownLocation(InvalidArgument):
    """Inventory has no location {location_id}."""


class PaymentMissing(InvalidArgument):
    """{amount} is to be paid, and `payment` does not say how."""


class BadTaxRate(InvalidArgument):
    """{tax_rate} is no tax rate: an exact decimal from 0 to 100, in percent."""


class NothingCredited(InvalidArgument):
    """A refund of no order that is known needs `credited` and `currency`."""


class NegativePrice(InvalidArgument):
    """The price {amount} of line {line_id} is below zero."""


class NotForSale(FailedPrecondition):
    """{sku} is not for sale."""


class NoPrice(FailedPrecondition):
    """{sku} has no price in {currency}."""


class CouponRefused(FailedPrecondition):
    """The coupon {code} does not hold: {why}"""


class PriceChanged(FailedPrecondition):
    """It costs {actual} now, not {expected}."""


class RefusedByCallee(FailedPrecondition):
    """{callee} refuses with {reason}: {message}"""


class NotShippable(FailedPrecondition):
    """The line {line_id} is nothing that is shipped."""


class TooManyUnits(FailedPrecondition):
    """Of line {line_id} {left} units are left to be {verb}, and {wanted} are wanted."""


class RefundExceedsCaptured(FailedPrecondition):
    """{left} of what was captured is left to be refunded, and {wanted} is wanted."""


class RefundRefused(FailedPrecondition):
    """The payment could not be refunded: {reason}"""


class PaymentDeclined(FailedPrecondition):
    """The payment was declined: {why}"""


class ReservationLost(FailedPrecondition):
    """The goods are held no more: the reservation is {state}."""


class FulfilmentRefused(FailedPrecondition):
    """What was sold cannot be provided: {why}"""


class FulfilmentTimedOut(FailedPrecondition):
    """Nobody said in time that what was sold is provided."""


class FulfilmentNotAwaited(FailedPrecondition):
    """Order {order_id} is {state} and awaits no answer."""


class FulfilmentReportedOtherwise(FailedPrecondition):
    """Of order {order_id} it was reported otherwise before."""


class ReturnNotExchangeable(FailedPrecondition):
    """The return {return_id} cannot pay for an order: {why}"""
