"""Statements: what a customer was charged and has paid."""

from services.chassis.errors import InvalidArgument

ENTRIES_MAX = 5_000  # Of one statement; a longer one is read in parts of its range.


class StatementRefused(InvalidArgument):
    """The statement breaks a rule: {problem}."""
