"""Where a product stands, and where it may go."""

from enum import StrEnum

from services.catalog.domain.refusals import IllegalTransition


class State(StrEnum):
    """GONE is what is left of a deleted product: its id, which is not used again."""

    NONE = "NONE"
    DRAFT = "DRAFT"
    ACTIVE = "ACTIVE"
    ARCHIVED = "ARCHIVED"
    GONE = "GONE"


FOLLOWING = {
    State.NONE: {State.DRAFT},
    State.DRAFT: {State.ACTIVE, State.GONE},
    State.ACTIVE: {State.ARCHIVED},
    State.ARCHIVED: {State.ACTIVE, State.GONE},
    State.GONE: set[State](),
}


def moves(state: State, to: State) -> bool:
    """Whether it has to move at all. Raises IllegalTransition."""
    if state is to:
        return False
    if to not in FOLLOWING[state]:
        raise IllegalTransition(state=state, to=to)
    return True
