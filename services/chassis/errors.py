"""Errors a caller is meant to handle. Anything else that escapes a handler is a bug: INTERNAL.

A subclass says all there is to say: its base the status code, its name the machine-readable
reason, its docstring the message, its keywords the metadata (google.rpc.ErrorInfo, AIP-193).
"""

import math
import re
from typing import ClassVar

from google.protobuf.duration_pb2 import Duration
from google.rpc import code_pb2, error_details_pb2, status_pb2

RETRY_AFTER_S = 1.0  # Hint for callers of what is away for a moment; callers add their own jitter.


class Refusal(Exception):
    """Base. Never raised itself."""

    code: ClassVar[int]
    retry_after_s: ClassVar[float | None] = None  # Becomes google.rpc.RetryInfo.

    def __init__(self, **facts: object) -> None:
        self.facts = {name: str(value) for name, value in facts.items()}
        super().__init__((type(self).__doc__ or "").strip().format(**facts))

    @classmethod
    def reason(cls) -> str:
        """`OutOfStock` -> `OUT_OF_STOCK`."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).upper()

    @classmethod
    def domain(cls) -> str:
        """`inventory.weft` for a refusal of services/inventory."""
        folder = cls.__module__.removeprefix("services.").split(".")[0]
        return f"{folder}.weft"

    def violations(self) -> list[error_details_pb2.BadRequest.FieldViolation]:
        """Fields of the request that broke a rule; none unless a subclass names them."""
        return []

    def status(self) -> status_pb2.Status:
        info = error_details_pb2.ErrorInfo(reason=self.reason(), domain=self.domain(), metadata=self.facts)
        status = status_pb2.Status(code=self.code, message=str(self))
        status.details.add().Pack(info)
        if violations := self.violations():
            status.details.add().Pack(error_details_pb2.BadRequest(field_violations=violations))
        if self.retry_after_s is not None:
            delay = Duration()
            delay.FromMilliseconds(int(self.retry_after_s * 1000))
            status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
        return status

    def headers(self) -> tuple[tuple[str, str], ...]:
        """Metadata beside the status: what callers by HTTP look for instead of a RetryInfo."""
        if self.retry_after_s is None:
            return ()
        return (("retry-after", str(math.ceil(self.retry_after_s))),)


class InvalidArgument(Refusal):
    """Base: a field breaks a rule whatever the state. A keyword `field` names it in BadRequest."""

    code = code_pb2.INVALID_ARGUMENT

    def violations(self) -> list[error_details_pb2.BadRequest.FieldViolation]:
        if "field" not in self.facts:
            return []
        broken = error_details_pb2.BadRequest.FieldViolation
        return [broken(field=self.facts["field"], description=str(self), reason=self.reason())]


class NotFound(Refusal):
    code = code_pb2.NOT_FOUND


class AlreadyExists(Refusal):
    code = code_pb2.ALREADY_EXISTS


class FailedPrecondition(Refusal):
    code = code_pb2.FAILED_PRECONDITION


class OutOfRange(Refusal):
    code = code_pb2.OUT_OF_RANGE


class PermissionDenied(Refusal):
    code = code_pb2.PERMISSION_DENIED


class Unauthenticated(Refusal):
    code = code_pb2.UNAUTHENTICATED


class Unimplemented(Refusal):
    code = code_pb2.UNIMPLEMENTED


class Aborted(Refusal):
    """Base: lost a race; reading again and retrying may succeed."""

    code = code_pb2.ABORTED


class ResourceExhausted(Refusal):
    code = code_pb2.RESOURCE_EXHAUSTED
    retry_after_s = RETRY_AFTER_S


class Unavailable(Refusal):
    """Base: something needed is away; the same call may succeed later."""

    code = code_pb2.UNAVAILABLE
    retry_after_s = RETRY_AFTER_S


class DeadlineExceeded(Refusal):
    code = code_pb2.DEADLINE_EXCEEDED


class Unknown(Refusal):
    code = code_pb2.UNKNOWN


class Internal(Refusal):
    """Something went wrong here; it is logged under trace {trace}."""

    code = code_pb2.INTERNAL


class CallFailed(Exception):
    """A call to another service of the mesh that was not answered OK."""

    def __init__(self, path: str, status: status_pb2.Status) -> None:
        super().__init__(f"{path}: {code_pb2.Code.Name(status.code)} {status.message}")
        self.path, self.status = path, status

    @property
    def code(self) -> int:
        return int(self.status.code)

    @property
    def reason(self) -> str:
        """The ErrorInfo reason, such as `OUT_OF_STOCK`; empty when the callee gave none."""
        info = error_details_pb2.ErrorInfo()
        for detail in self.status.details:
            if detail.Unpack(info):
                return str(info.reason)
        return ""

    @property
    def retry_after_s(self) -> float | None:
        """When the callee asks to try again; None when it does not say."""
        retry = error_details_pb2.RetryInfo()
        for detail in self.status.details:
            if detail.Unpack(retry):
                return float(retry.retry_delay.ToMilliseconds()) / 1000
        return None


class Relayed(Refusal):
    """A callee's refusal that our own caller may handle as well as we could."""

    CODES = frozenset(
        {
            code_pb2.UNAVAILABLE,
            code_pb2.DEADLINE_EXCEEDED,
            code_pb2.RESOURCE_EXHAUSTED,
            code_pb2.UNAUTHENTICATED,
            code_pb2.PERMISSION_DENIED,
        }
    )

    def __init__(self, failed: CallFailed) -> None:
        super().__init__()
        self._status = failed.status
        self.code = failed.code  # type: ignore[misc]
        self.retry_after_s = failed.retry_after_s  # type: ignore[misc]

    def status(self) -> status_pb2.Status:
        return self._status
