"""What callers are refused, and the bounds behind it."""

from datetime import timedelta

from services.chassis.errors import InvalidArgument, NotFound, ResourceExhausted

PIN_MAX = timedelta(days=7)  # Whoever needs it for longer pins again; a pin that is forgotten ends.
STREAMS_MAX = 200  # Of one process: operators, not customers, watch modes.


class UnknownCapability(NotFound):
    """There is no capability {capability}."""


class UnknownIncident(NotFound):
    """There is no incident {incident_id}."""


class PinOutOfRange(InvalidArgument):
    """A pin ends in the future, and at most {days} days from now."""

    def __init__(self) -> None:
        super().__init__(days=PIN_MAX.days, field="expire_time")


class TooManyStreams(ResourceExhausted):
    """This process serves {max} streams already."""
