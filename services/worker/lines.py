"""Log records as lines of a job."""

import logging
from collections.abc import Callable

from services.chassis.jobs.context import bound, current_job
from weft.jobs.v1.attempt_pb2 import LogLine

LINE_CHARS_MAX, FACTS_MAX, FACT_CHARS_MAX = 4_000, 32, 1_000  # As LogLine says.
LEVELS = {logging.DEBUG: "DEBUG", logging.INFO: "INFO", logging.WARNING: "WARNING"}


class LineHandler(logging.Handler):
    """Hands on what is logged while a job runs, by whichever logger; the rest is no job's."""

    def __init__(self, take: Callable[[LogLine], None]) -> None:
        super().__init__(logging.INFO)
        self._take = take

    def emit(self, record: logging.LogRecord) -> None:
        if (known := current_job.get()) is None:
            return
        try:
            own = bound(known()).keys()
            line = LogLine(level=LEVELS.get(record.levelno, "ERROR"), message=_message(record))
            line.time.FromNanoseconds(int(record.created * 1e9))
            given = [(k, v) for k, v in getattr(record, "facts", {}).items() if k not in own]
            for name, value in given[:FACTS_MAX]:
                line.facts[str(name)] = str(value)[:FACT_CHARS_MAX]
            self._take(line)
        except Exception:  # What cannot be formatted is the handler's mistake, and no reason to fail the job.
            self.handleError(record)


def _message(record: logging.LogRecord) -> str:
    words = record.getMessage()
    if record.exc_info and record.exc_info[1] is not None:
        words = f"{words}: {record.exc_info[1]!r}"
    return words[:LINE_CHARS_MAX]


class BindToJob(logging.Filter):
    """Adds the job to every line that is logged while it runs."""

    def filter(self, record: logging.LogRecord) -> bool:
        if (known := current_job.get()) is not None:
            record.facts = {**bound(known()), **getattr(record, "facts", {})}
        return True
