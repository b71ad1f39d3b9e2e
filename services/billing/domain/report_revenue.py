"""When revenue is earned: by the days of the service, never in a month that was over when it was billed.

By days and not by seconds: books are closed by the day, a day is the same for the report, for the ledger and
for whoever checks them by hand, and no hour of summer time shifts a cent. A day that has begun is served, as
everywhere in billing. So what an invoice defers is what the report has yet to earn after that day.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta
from fractions import Fraction
from zoneinfo import ZoneInfo

from services.chassis.money import allocate, round_half_up

ByMonth = Mapping[date, int]  # Minor units by the first day of the month; no zeros.


def month_of(day: date) -> date:
    return day.replace(day=1)


def months_between(first: date, last: date) -> list[date]:
    """First days of months, both ends included; none when `last` is before `first`."""
    found = []
    while first <= last:
        found.append(first)
        first = next_month(first)
    return found


def next_month(month: date) -> date:
    return (month + timedelta(days=31)).replace(day=1)


def days_of(start: datetime | None, end: datetime | None, zone: str) -> tuple[date, date] | None:
    """First and last day of a service on the customer's calendar; None: it has no time of its own."""
    if not start or not end or end <= start:
        return None
    tz = ZoneInfo(zone)
    return start.astimezone(tz).date(), (end - timedelta(microseconds=1)).astimezone(tz).date()


def served(amount: int, first: date, last: date, day: date) -> int:
    """Of `amount`, what a service from `first` to `last` has earned when `day` is over, rounded half up."""
    whole = (last - first).days + 1
    passed = min(max((day - first).days + 1, 0), whole)
    return round_half_up(Fraction(amount * passed, whole))


def earned(amount: int, first: date, last: date, billed: date) -> ByMonth:
    """Shares of `amount` by the days of a service from `first` to `last`; those before `billed` count then.

    Each is what is served when its month is over, less what was before: so they sum to the amount. `billed`
    is a month; a service that ends before it begins is earned in it.
    """
    if first > last:
        return _whole(amount, billed)
    shares: dict[date, int] = defaultdict(int)
    before = 0
    for month in months_between(month_of(first), last):
        until = served(amount, first, last, next_month(month) - timedelta(days=1))
        shares[max(month, billed)] += until - before
        before = until
    return {month: share for month, share in sorted(shares.items()) if share}


def taken_back(amount: int, later: ByMonth, deferred: int, month: date) -> ByMonth:
    """What a credit note of `month` undoes, negative.

    `later` is what its invoice has yet to earn in months after it; of that `deferred` is undone, in
    proportion, and the rest of the amount in the month itself.
    """
    waiting = sum(later.values())
    ahead = max(0, min(deferred, waiting, amount))
    months = [each for each in sorted(later) if later[each] > 0]
    shares = allocate(ahead, [later[each] for each in months]) if ahead and months else []
    undone = {each: -share for each, share in zip(months, shares, strict=False) if share}
    rest = amount - sum(shares)
    return joined([undone, _whole(-rest, month)])


def voided(entries: ByMonth, month: date) -> ByMonth:
    """Undoes all of an invoice: what it has yet to earn where it would have, the rest in `month`."""
    undone: dict[date, int] = defaultdict(int)
    for each, amount in entries.items():
        undone[max(each, month)] -= amount
    return {each: amount for each, amount in sorted(undone.items()) if amount}


def joined(parts: Iterable[ByMonth]) -> ByMonth:
    """Their sum."""
    total: dict[date, int] = defaultdict(int)
    for part in parts:
        for month, amount in part.items():
            total[month] += amount
    return {month: amount for month, amount in sorted(total.items()) if amount}


def _whole(amount: int, month: date) -> ByMonth:
    return {month: amount} if amount else {}
