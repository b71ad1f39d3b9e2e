"""What happens to a subscription as time passes and people change their minds, and what lines that makes.

Pure: a subscription, its plan's terms, what its meters saw, and a time go in; lines come out, and the
subscription stands where it stands then. What is charged in advance is billed as a period begins; what is
charged in arrears, and usage, as it ends. A change gives back the unused part of what was billed in advance,
as it was billed (after coupons), and charges the new terms from then on.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction

from services.billing.domain.charge import Basis, Charge, Usage, recurring_cost, rounded, usage_cost
from services.billing.domain.cycle import Proration, Span, day_end, share
from services.billing.domain.plan import Alignment, Terms, UpgradeCredit, is_upgrade
from services.billing.domain.profile import zone
from services.billing.domain.subscription import Advance, Running, State
from services.billing.domain.totals import Line
from services.chassis.money import round_half_up

Seen = Mapping[str, Usage]  # What the meters saw, by the code of the charge.
NO_USAGE = Usage()


@dataclass(frozen=True, slots=True)
class Wanted:
    """Another plan, version or quantity."""

    terms: Terms
    quantity: int


def begin(sub: Running, terms: Terms, at: datetime) -> list[Line]:
    """The first period after a trial, a pause or nothing. `sub` pays from now on."""
    tz = zone(sub.time_zone)
    if sub.anchor is None:
        at = at.replace(microsecond=0)
        cycle = terms.cycle(at, tz, sub.billing_day)
        sub.anchor, sub.anchor_day = cycle.anchor, cycle.day
    whole = sub.cycle(terms.unit, terms.count).around(at)
    sub.state, sub.paused_at = State.ACTIVE, None
    sub.period_start = max(at, whole.start)
    sub.period_end = sub.next_bill_at = whole.end
    sub.terms_start = sub.usage_start = sub.period_start
    sub.billed = []
    return advance(sub, terms, sub.quantity, Span(sub.period_start, whole.end), whole)


def start(sub: Running, terms: Terms) -> list[Line]:
    """The start that was scheduled: a trial, or the first period."""
    end = terms.trial_end(sub.start_at, zone(sub.time_zone), sub.trial_days)
    if end is None:
        return begin(sub, terms, sub.start_at)
    sub.state, sub.trial_end = State.TRIALING, end
    sub.period_start, sub.period_end = sub.start_at, end
    sub.next_bill_at, sub.usage_start, sub.terms_start = end, end, end
    return []


def whole_period(sub: Running, terms: Terms) -> Span:
    """The full interval that the current period is (a part of)."""
    assert sub.period_start
    return sub.cycle(terms.unit, terms.count).around(sub.period_start)


def advance(
    sub: Running, terms: Terms, quantity: int, part: Span, whole: Span, only: Basis | None = None
) -> list[Line]:
    """What is charged in advance for `part` of the `whole` current period; noted as billed."""
    charges = [c for c in terms.charges if c.recurring and c.in_advance and only in (None, c.basis)]
    if not charges or part.start >= part.end:
        return []
    ratio = share(terms.proration, whole, part, zone(sub.time_zone))
    lines = [_recurring_line(sub, terms, c, quantity, part, ratio) for c in charges]
    for line in lines:
        line.advance = True
        assert line.start
        assert line.end
        sub.billed.append(
            Advance(line.charge, line.amount, line.amount, line.tax_category, line.start, line.end)
        )
    return lines


def arrears(sub: Running, terms: Terms, until: datetime) -> list[Line]:
    """What is charged at the end for the time that the terms held, up to `until`."""
    charges = [charge for charge in terms.charges if charge.recurring and not charge.in_advance]
    assert sub.terms_start
    part = Span(sub.terms_start, until)
    if not charges or part.start >= part.end:
        return []
    ratio = share(terms.proration, whole_period(sub, terms), part, zone(sub.time_zone))
    lines = []
    for charge in charges:
        line = _recurring_line(sub, terms, charge, sub.quantity, part, ratio)
        lines += [line, *(_missing(line, charge.minimum, ratio, terms.currency) if charge.minimum else ())]
    return lines


def _recurring_line(
    sub: Running, terms: Terms, charge: Charge, quantity: int, part: Span, ratio: Fraction
) -> Line:
    whole = ratio == 1
    if whole:
        amount = terms.whole(charge, quantity)
    else:
        amount = rounded(recurring_cost(charge, quantity) * ratio, terms.currency)
    return Line(
        description=charge.title,
        amount=amount,
        tax_category=charge.tax_category,
        charge=charge.code,
        sku=charge.sku,
        units=Decimal(1 if charge.basis is Basis.FLAT else quantity),
        unit_price=charge.unit_price if whole and not charge.tiers else None,
        start=part.start,
        end=part.end,
        subscription_id=sub.subscription_id,
        plan_id=sub.plan_id,
    )


def usage_lines(sub: Running, terms: Terms, seen: Seen, until: datetime) -> list[Line]:
    """What the meters saw since usage was last billed."""
    assert sub.usage_start
    lines: list[Line] = []
    for charge in terms.charges:
        usage = seen.get(charge.code, NO_USAGE)
        if charge.recurring or (usage is NO_USAGE and not charge.minimum):
            continue
        units, exact = usage_cost(charge, usage)
        line = Line(
            description=charge.title,
            amount=rounded(exact, terms.currency),
            tax_category=charge.tax_category,
            charge=charge.code,
            sku=charge.sku,
            units=units,
            start=sub.usage_start,
            end=until,
            subscription_id=sub.subscription_id,
            plan_id=sub.plan_id,
        )
        lines += [line] * bool(units or line.amount)
        if charge.minimum:
            part = Span(sub.usage_start, until)
            ratio = share(terms.proration, whole_period(sub, terms), part, zone(sub.time_zone))
            lines += _missing(line, charge.minimum, ratio, terms.currency)
    return lines


def _missing(line: Line, minimum: Decimal, ratio: Fraction, currency: str) -> list[Line]:
    """The line that makes up for what a minimum is not reached by; none where it is."""
    least = rounded(Fraction(minimum) * ratio, currency)
    if line.amount >= least:
        return []
    return [_true_up(line, f"{line.description}: minimum", least - line.amount)]


def _true_up(like: Line, description: str, amount: int) -> Line:
    return Line(
        description=description,
        amount=amount,
        tax_category=like.tax_category,
        charge=f"{like.charge}:minimum",
        start=like.start,
        end=like.end,
        subscription_id=like.subscription_id,
        plan_id=like.plan_id,
    )


def _plan_minimum(sub: Running, terms: Terms, lines: Iterable[Line], until: datetime) -> list[Line]:
    """What all charges since the terms hold lack of the plan's minimum."""
    assert sub.usage_start
    if not terms.minimum or sub.usage_start >= until:
        return []
    part = Span(sub.usage_start, until)
    ratio = share(terms.proration, whole_period(sub, terms), part, zone(sub.time_zone))
    least = rounded(Fraction(terms.minimum) * ratio, terms.currency)
    charged = sum(line.amount for line in lines) + sum(each.amount for each in sub.billed)
    if charged >= least:
        return []
    like = Line(
        description="",
        amount=0,
        tax_category=terms.minimum_category,
        charge="plan",
        start=part.start,
        end=until,
        subscription_id=sub.subscription_id,
        plan_id=sub.plan_id,
    )
    return [_true_up(like, "Minimum of the plan", least - charged)]


def close(sub: Running, terms: Terms, seen: Seen, until: datetime) -> list[Line]:
    """All that is owed for the current terms up to `until` and was not billed in advance."""
    resting = sub.state is State.PAUSED  # What it owed until it paused was noted then.
    lines = [] if resting else arrears(sub, terms, until)
    lines += usage_lines(sub, terms, seen, until)
    lines += _plan_minimum(sub, terms, lines, until)
    sub.terms_start = sub.usage_start = until
    return lines


def pass_on(sub: Running, terms: Terms, following: Wanted | None, seen: Seen) -> list[Line]:
    """What happens at `sub.next_bill_at`. `following`: the plan that was chosen for the next period."""
    at = sub.next_bill_at
    assert at
    if sub.state is State.SCHEDULED:
        return start(sub, _follow(sub, terms, following))
    if sub.state is State.TRIALING:
        if sub.cancel_at and sub.cancel_at <= at:
            sub.end(at)
            return []
        return begin(sub, _follow(sub, terms, following), at)
    lines = close(sub, terms, seen, at)
    if sub.cancel_at and sub.cancel_at <= at:
        sub.end(at)
    elif sub.state is State.PAUSED:
        sub.next_bill_at = None
    else:
        lines += begin(sub, _follow(sub, terms, following), at)
    return lines


def _follow(sub: Running, terms: Terms, following: Wanted | None) -> Terms:
    """The terms of the next period; what was scheduled is true now."""
    if following is None:
        return terms
    _rearrange(sub, terms, following.terms)
    sub.plan_id, sub.plan_version = sub.next_plan_id or sub.plan_id, sub.next_plan_version or sub.plan_version
    sub.quantity = following.quantity
    sub.schedule(None, None, None)
    return following.terms


def _rearrange(sub: Running, old: Terms, new: Terms) -> None:
    """Periods of another kind have another anchor; those of the same kind keep theirs."""
    same = (old.unit, old.count, old.alignment) == (new.unit, new.count, new.alignment)
    if not same or new.alignment is Alignment.CALENDAR:
        sub.anchor = sub.anchor_day = None


def change(sub: Running, old: Terms, new: Wanted, seen: Seen, at: datetime) -> list[Line]:
    """Other terms from now on. The caller has put plan and version of `new` into `sub` afterwards."""
    if sub.state in (State.SCHEDULED, State.TRIALING):
        sub.quantity = new.quantity
        return []
    if new.terms is old:
        return _change_quantity(sub, old, new.quantity, at)
    since = _boundary(sub, old, at)
    dearer = is_upgrade(old, sub.quantity, new.terms, new.quantity)
    lines = give_back(sub, old, since, whole=dearer and old.upgrade_credit is UpgradeCredit.BILLED)
    lines += close(sub, old, seen, since)
    sub.billed = []
    sub.quantity = new.quantity
    _rearrange(sub, old, new.terms)
    if sub.anchor is None:
        return lines + begin(sub, new.terms, at)
    part = Span(since, sub.period.end)
    return lines + advance(sub, new.terms, sub.quantity, part, whole_period(sub, new.terms))


def _boundary(sub: Running, terms: Terms, at: datetime) -> datetime:
    """From when a change counts. By days, the whole day belongs to what follows; never before the period."""
    assert sub.period_start
    if terms.proration is Proration.SECOND:
        return at
    tz = zone(sub.time_zone)
    local = at.astimezone(tz).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    return max(local.astimezone(sub.period_start.tzinfo), sub.period_start)


def _change_quantity(sub: Running, terms: Terms, quantity: int, at: datetime) -> list[Line]:
    """Only what is charged by seats is touched; meters count on."""
    since = _boundary(sub, terms, at)
    seats = {charge.code for charge in terms.charges if charge.basis is Basis.SEATS}
    lines = give_back(sub, terms, since, only=seats)
    lines += arrears(sub, terms, since)
    sub.terms_start = since
    sub.quantity = quantity
    part = Span(since, sub.period.end)
    return lines + advance(sub, terms, quantity, part, whole_period(sub, terms), Basis.SEATS)


def give_back(
    sub: Running, terms: Terms, at: datetime, *, only: set[str] | None = None, whole: bool = False
) -> list[Line]:
    """The unused part of what was billed in advance (or the `whole` of it), as it was billed."""
    since, lines, kept = _boundary(sub, terms, at), [], []
    for each in sub.billed:
        if only is not None and each.charge not in only:
            kept.append(each)
            continue
        unused = Span(max(since, each.start), each.end)
        if unused.start < unused.end or whole:
            back = each.net if whole else _part(terms, sub, each, unused)
            lines += [_back(sub, terms, each, unused, back)] * bool(back)
            if unused.start > each.start and not whole:
                kept.append(_used(each, unused.start, back))
    sub.billed = kept
    return lines


def _part(terms: Terms, sub: Running, each: Advance, unused: Span) -> int:
    ratio = share(terms.proration, Span(each.start, each.end), unused, zone(sub.time_zone))
    return round_half_up(each.net * ratio)


def _used(each: Advance, until: datetime, back: int) -> Advance:
    """What is left of it as charged; a plan's minimum counts that."""
    return Advance(
        each.charge, each.amount - back, each.net - back, each.tax_category, each.start, until,
        each.invoice_id, each.position,
    )  # fmt: skip


def _back(sub: Running, terms: Terms, each: Advance, unused: Span, amount: int) -> Line:
    titles = {charge.code: charge.title for charge in terms.charges}
    return Line(
        description=f"{titles.get(each.charge, each.charge)}: not used",
        amount=-amount,
        tax_category=each.tax_category,
        charge=each.charge,
        start=unused.start,
        end=unused.end,
        subscription_id=sub.subscription_id,
        plan_id=sub.plan_id,
        origin=f"{each.invoice_id}:{each.position}" if each.invoice_id else "",
    )


def cancel(sub: Running, terms: Terms, seen: Seen, at: datetime, *, credit: bool) -> list[Line]:
    """It ends now. `credit`: the unused part of what was billed in advance is given back."""
    if sub.state in (State.SCHEDULED, State.TRIALING):
        sub.end(at)
        return []
    used_until = day_end(at, zone(sub.time_zone)) if terms.proration is Proration.DAY else at
    used_until = min(used_until, sub.period.end)
    lines = [] if sub.next_bill_at is None else close(sub, terms, seen, used_until)
    if credit:
        lines += give_back(sub, terms, used_until)
    sub.end(at)
    return lines


def pause(sub: Running, terms: Terms, at: datetime) -> list[Line]:
    """It rests. What was billed in advance stays; what is charged in arrears is owed until now."""
    lines = arrears(sub, terms, _boundary(sub, terms, at))
    sub.state, sub.paused_at, sub.terms_start = State.PAUSED, at, at
    return lines


def resume(sub: Running, terms: Terms, at: datetime) -> list[Line]:
    """It goes on: in the same period while that lasts, else in the part that is left of another."""
    if sub.next_bill_at is None:
        return begin(sub, terms, at)
    sub.state, sub.paused_at, sub.terms_start = State.ACTIVE, None, at
    return []
