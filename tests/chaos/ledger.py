"""What callers were promised while parts of the mesh died, and how those who got no answer were told."""

from collections import Counter
from dataclasses import dataclass, field

import grpc.aio
import httpx
from google.rpc import error_details_pb2, status_pb2

DETAILS = "grpc-status-details-bin"
EDGE = "edge"


@dataclass(frozen=True)
class Failure:
    """A call that was not answered."""

    caller: str
    struck: frozenset[str]  # Which parts had been struck last when it failed.
    code: str
    hinted: bool  # With a time to try again after.
    said: str


@dataclass
class Ledger:
    """All that callers remember."""

    users: dict[str, str] = field(default_factory=dict)  # Acknowledged: address by user id.
    tried: set[str] = field(default_factory=set)  # User ids that were ever sent.
    counts: dict[str, int] = field(default_factory=dict)  # Preference acknowledged last, by user id.
    accepted: set[str] = field(default_factory=set)  # Addresses whose registration was answered.
    asked: set[str] = field(default_factory=set)  # Addresses whose registration was sent.
    answered: Counter[str] = field(default_factory=Counter)  # Calls by caller.
    failures: list[Failure] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)  # What must not happen, whatever dies.
    struck: frozenset[str] = frozenset()

    def note_grpc(self, caller: str, error: grpc.aio.AioRpcError) -> float:
        """Takes down a call's failure. Returns the seconds that the hint asks to wait."""
        retry_s = hint(error)
        code, said = error.code().name, str(error.details())
        self._note(Failure(caller, self.struck, code, retry_s is not None, said))
        return retry_s or 0.1

    def note_http(self, caller: str, answer: httpx.Response) -> float:
        """As `note_grpc`."""
        code = {503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED"}.get(answer.status_code, str(answer.status_code))
        after = answer.headers.get("retry-after")
        self._note(Failure(caller, self.struck, code, after is not None, answer.text))
        return float(after or 0.1)

    def note_broken(self, caller: str, error: httpx.TransportError) -> None:
        """Takes down a connection's end."""
        code = "DEADLINE_EXCEEDED" if isinstance(error, httpx.TimeoutException) else "UNAVAILABLE"
        self._note(Failure(caller, self.struck, code, hinted=False, said=repr(error)))

    def summary(self) -> str:
        """Kinds of failures, for people."""
        kinds = Counter((*sorted(f.struck), f.caller.split()[0], f.code, f.said[:80]) for f in self.failures)
        return "\n".join(f"{count} x {' '.join(kind)}" for kind, count in kinds.most_common())

    def _note(self, failure: Failure) -> None:
        self.failures.append(failure)
        if failure.code == "DEADLINE_EXCEEDED" or (failure.code == "UNAVAILABLE" and failure.hinted):
            return
        # Where the edge itself is gone, nobody is left to give a hint: the connection ends.
        if failure.code == "UNAVAILABLE" and EDGE in failure.struck:
            return
        self.wrong.append(str(failure))


def hint(error: grpc.aio.AioRpcError) -> float | None:
    """Seconds of the RetryInfo, None without one."""
    found = dict(error.trailing_metadata() or ()).get(DETAILS)
    retry = error_details_pb2.RetryInfo()
    status = status_pb2.Status.FromString(found) if isinstance(found, bytes) else status_pb2.Status()
    for detail in status.details:
        if detail.Unpack(retry):
            return retry.retry_delay.ToTimedelta().total_seconds()
    return None
