"""What a watch is refused."""

from services.chassis.errors import InvalidArgument, ResourceExhausted


class ResumeTokenRefused(InvalidArgument):
    """The resume token is not one of a watch of these SKUs."""


class TooManyWatches(ResourceExhausted):
    """This process has {max} watches already."""
