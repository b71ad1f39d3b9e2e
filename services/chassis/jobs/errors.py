"""What a handler raises to end its attempt in a certain way. Anything else it raises is retried by policy."""

import re

REASON = re.compile(r"[A-Z][A-Z0-9_]{0,62}")  # As refusals name theirs (google.rpc.ErrorInfo).


class Retry(Exception):
    """Ends the attempt as failed; the job runs again, unless it has no attempt left."""

    def __init__(self, message: str = "", *, after_s: float | None = None) -> None:
        """`after_s` is how long it waits; None: as its retry policy says."""
        if after_s is not None and after_s < 0:
            raise ValueError(f"after_s must be at least 0, not {after_s}")
        super().__init__(message)
        self.after_s = after_s


class Fail(Exception):
    """Ends the job for good: no further attempt would help."""

    def __init__(self, reason: str, message: str = "") -> None:
        """`reason` is for programs, such as `CARD_EXPIRED`; `message` for people."""
        if not REASON.fullmatch(reason):
            raise ValueError(f"a reason is UPPER_SNAKE_CASE, at most 63 characters, not {reason!r}")
        super().__init__(message or reason)
        self.reason = reason


class BadPayload(Fail):
    """The payload is not what the handler's type says."""

    def __init__(self, field: str, rule: str) -> None:
        """`field` is the path to it, such as `lines[2].price`; empty when it is the whole."""
        super().__init__("BAD_PAYLOAD", f"{field}: {rule}" if field else rule)
        self.field, self.rule = field, rule


class Cancelled(BaseException):
    """Raised into a plain function whose job is to end: cancelled, out of time, or its worker stops.

    As `asyncio.CancelledError`, it is no Exception, so that `except Exception` does not swallow it.
    """
