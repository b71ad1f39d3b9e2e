"""What a handler returned, as an ending."""

from services.worker.ending import RETURNED, Ending, because
from weft.jobs.v1.job_pb2 import EndReason

RESULT_BYTES_MAX = 262_144  # As AttemptReport says: what is larger belongs into a store, its name here.


def returned(result: bytes, content_type: str) -> Ending:
    if len(result) > RESULT_BYTES_MAX:
        words = f"a result has at most {RESULT_BYTES_MAX} bytes, not {len(result)}"
        return because(EndReason.END_REASON_RESULT_TOO_LARGE, words)
    return Ending(RETURNED, result=result, result_type=content_type)
