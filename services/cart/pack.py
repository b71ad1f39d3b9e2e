"""Carts as messages of the wire."""

from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp

from services.cart.domain.cart import Cart, Line, State
from weft.cart.v1 import resource_pb2 as pb
from weft.cart.v1.events_pb2 import CartCheckedOut, CartExpired, CartMerged, CartUpdated

OPEN = (State.OPEN, State.CHECKING_OUT)


def stamp(at: datetime) -> Timestamp:
    made = Timestamp()
    made.FromDatetime(at)
    return made


def cart(found: Cart) -> pb.Cart:
    """Without prices."""
    return pb.Cart(
        cart_id=str(found.cart_id),
        customer_id=str(found.customer_id or ""),
        currency=found.currency,
        country=found.country,
        state=pb.CartState.Value(f"CART_STATE_{found.state.value}"),
        version=found.version,
        lines=map(_line, found.lines.values()),
        coupon_codes=found.coupon_codes,
        order_id=str(found.order_id or ""),
        merged_into_id=str(found.merged_into_id or ""),
        create_time=stamp(found.created_at),
        update_time=stamp(found.updated_at),
        expire_time=stamp(found.expires_at) if found.state in OPEN else None,
    )


def _line(line: Line) -> pb.CartLine:
    return pb.CartLine(sku=line.sku, units=line.units, saved_for_later=line.saved, add_time=stamp(line.at))


def updated(found: Cart) -> CartUpdated:
    return CartUpdated(
        cart_id=str(found.cart_id),
        customer_id=str(found.customer_id or ""),
        version=found.version,
        lines=len(found.wanted),
        units=found.units,
    )


def merged(guest: Cart, into: Cart) -> CartMerged:
    ids = {"cart_id": str(guest.cart_id), "into_cart_id": str(into.cart_id)}
    return CartMerged(customer_id=str(into.customer_id), **ids)


def checked_out(found: Cart) -> CartCheckedOut:
    return CartCheckedOut(
        cart_id=str(found.cart_id), customer_id=str(found.customer_id or ""), order_id=str(found.order_id)
    )


def expired(found: Cart) -> CartExpired:
    return CartExpired(
        cart_id=str(found.cart_id),
        customer_id=str(found.customer_id or ""),
        lines=len(found.wanted),
        units=found.units,
    )
