"""What the sandbox refuses."""

from services.chassis.errors import Unimplemented


class SandboxOff(Unimplemented):
    """There is no sandbox here."""
