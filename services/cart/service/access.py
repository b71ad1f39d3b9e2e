"""Whose cart it is: the rpcs are open to guests, so each asks here."""

from uuid import UUID

from services.cart.domain import token as tokens
from services.cart.domain.cart import Cart, UnknownCart
from services.chassis.caller import Caller

READ, WRITE = "cart.carts.read", "cart.carts.write"


def person(caller: Caller) -> UUID | None:
    """The user who is signed in, themselves or by an application that they let act for them."""
    if not caller.subject or caller.kind == "service" or not caller.whole:
        return None
    try:
        return UUID(caller.subject)
    except ValueError:
        return None  # An application that acts for itself.


def let_in(caller: Caller, cart: Cart, token: str, permission: str) -> None:
    """Raises UnknownCart: who may not see a cart is not told that there is one."""
    own = cart.customer_id is not None and cart.customer_id == person(caller)
    if not (own or tokens.opens(token, cart.token_sha256) or caller.can(permission)):
        raise UnknownCart(cart_id=cart.cart_id)
