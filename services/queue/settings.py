"""This service's settings; the prefix is WEFT_QUEUE_."""

from dataclasses import dataclass

from services.chassis.config import BadSetting, setting


@dataclass(frozen=True, kw_only=True)
class QueueServiceSettings:
    """How patient the queue is."""

    heartbeat_s: float = setting("Seconds without news after which a watch says that it lives.", 15.0)
    publish_s: float = setting(
        "Seconds that an enqueuing call waits for JetStream; what it has not taken by then goes later.", 2.0
    )
    reconcile_s: float = setting("Seconds after which a recorded job that is not published is.", 3.0)
    audit_s: float = setting(
        "Seconds after which a job that waits, and whose message JetStream has lost, is published anew.",
        600.0,
    )
    lease_s: float = setting("Seconds that a worker has a lane or slot without renewing it.", 15.0)

    def __post_init__(self) -> None:
        if min(self.heartbeat_s, self.publish_s, self.reconcile_s, self.lease_s) <= 0:
            raise BadSetting("WEFT_QUEUE_: every number of seconds must be above 0")
