"""Sharing an amount out: what each source gives, and who gets it.

The rules are those of Formance's Numscript: shares are rounded down and the rest goes to the first of them;
what was taken first is given first; what is kept goes back to where it came from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import lcm

from services.chassis.errors import FailedPrecondition, InvalidArgument
from services.chassis.money import Allocation, allocate

DEPTH_MAX = 16  # Sources in sources; the wire itself ends at a hundred.
POSTINGS_MAX = 1_000  # Of one distribution, as of one batch.


class InsufficientFunds(FailedPrecondition):
    """{needed_minor} are needed, and the sources give {available_minor}."""


class PortionsRefused(InvalidArgument):
    """{problem}"""


@dataclass(frozen=True, slots=True)
class Account:
    """A source that is debited. `overdraft` None: it gives whatever is asked for."""

    name: str
    overdraft: int | None = 0
    most: int | None = None


@dataclass(frozen=True, slots=True)
class InOrder:
    """One after the other, of sources or of destinations."""

    items: Sequence["Source | Target"]
    most: int | None = None


@dataclass(frozen=True, slots=True)
class Shares:
    """A part each; None: what the others leave."""

    items: Sequence[tuple[Fraction | None, "Source | Target"]]
    most: int | None = None


@dataclass(frozen=True, slots=True)
class To:
    """A destination. An empty name: it is kept where it came from."""

    name: str
    most: int | None = None


Source = Account | InOrder | Shares
Target = To | InOrder | Shares


@dataclass(slots=True)
class Plan:
    """What is taken and not yet given, and who gives whom what."""

    balances: dict[str, int]  # What each account has; those that are not there have nothing.
    taken: list[tuple[str, int]] = field(default_factory=list)
    postings: list[tuple[str, str, int]] = field(default_factory=list)

    def send(self, amount: int | None, source: Source, target: Target) -> None:
        """None: all that the source has. Raises InsufficientFunds, PortionsRefused."""
        got = self._take(source, amount, 0)
        if amount is not None and got < amount:
            raise InsufficientFunds(needed_minor=amount, available_minor=got)
        self._give(target, got, 0)

    def _take(self, source: Source, needed: int | None, depth: int) -> int:
        """What it gave, at most `needed`."""
        _bounded(depth)
        if source.most is not None:
            needed = source.most if needed is None else min(needed, source.most)
        if isinstance(source, Account):
            return self._take_account(source, needed)
        if isinstance(source, InOrder):
            return self._take_in_order(source.items, needed, depth)
        return self._take_shares(source, needed, depth)

    def _take_account(self, source: Account, needed: int | None) -> int:
        has = self.balances.get(source.name, 0)
        if source.overdraft is None:
            if needed is None:
                raise PortionsRefused(problem="All of a source without bound is no amount.")
            got = needed
        else:
            got = max(0, has + source.overdraft)
            got = got if needed is None else min(got, needed)
        self.balances[source.name] = has - got
        if got and self.taken and self.taken[-1][0] == source.name:
            self.taken[-1] = (source.name, self.taken[-1][1] + got)
        elif got:
            self.taken.append((source.name, got))
        return got

    def _take_in_order(self, items: Sequence[Source | Target], needed: int | None, depth: int) -> int:
        got = 0
        for each in items:
            assert not isinstance(each, To)
            got += self._take(each, None if needed is None else needed - got, depth + 1)
        return got

    def _take_shares(self, source: Shares, needed: int | None, depth: int) -> int:
        if needed is None:
            raise PortionsRefused(problem="Shares are of an amount, not of all there is.")
        for share, (_, each) in zip(_shares(source, needed), source.items, strict=True):
            assert not isinstance(each, To)
            if (got := self._take(each, share, depth + 1)) < share:
                raise InsufficientFunds(needed_minor=share, available_minor=got)
        return needed

    def _give(self, target: Target, amount: int, depth: int) -> None:
        _bounded(depth)
        if isinstance(target, To):
            self._give_to(target.name, amount)
        elif isinstance(target, Shares):
            for share, (_, each) in zip(_shares(target, amount), target.items, strict=True):
                assert not isinstance(each, Account)
                self._give(each, share, depth + 1)
        else:
            self._give_in_order(target.items, amount, depth)

    def _give_in_order(self, items: Sequence[Source | Target], amount: int, depth: int) -> None:
        for each in items:
            assert not isinstance(each, Account)
            share = amount if each.most is None else min(amount, each.most)
            self._give(each, share, depth + 1)
            amount -= share
        if amount:
            raise PortionsRefused(problem="The last destination of a list has no bound.")

    def _give_to(self, name: str, amount: int) -> None:
        while amount:
            source, has = self.taken.pop(0)
            given = min(has, amount)
            if given < has:
                self.taken.insert(0, (source, has - given))
            amount -= given
            self._post(source, name, given)

    def _post(self, source: str, name: str, given: int) -> None:
        """What is kept goes back."""
        if not name:
            self.balances[source] += given
            return
        self.balances[name] = self.balances.get(name, 0) + given
        self.postings.append((source, name, given))
        if len(self.postings) > POSTINGS_MAX:
            raise PortionsRefused(problem=f"It takes more than {POSTINGS_MAX} transfers.")


def _shares(of: Shares, amount: int) -> list[int]:
    """Raises PortionsRefused."""
    portions = [portion for portion, _ in of.items if portion is not None]
    named = sum(portions, Fraction(0))
    rest = len(of.items) - len(portions)
    if rest > 1:
        raise PortionsRefused(problem="Only one share is what the others leave.")
    if named > 1 or (named < 1 and not rest):
        raise PortionsRefused(problem=f"The portions sum to {named}, not to 1.")
    whole = [1 - named if portion is None else portion for portion, _ in of.items]
    unit = lcm(*(portion.denominator for portion in whole))
    return allocate(amount, [int(portion * unit) for portion in whole], Allocation.FLOOR_FIRST)


def portion(text: str) -> Fraction | None:
    """From `1/3` or `12.5%`; None from nothing."""
    if not text:
        return None
    return Fraction(text[:-1]) / 100 if text.endswith("%") else Fraction(text)


def _bounded(depth: int) -> None:
    if depth > DEPTH_MAX:
        raise PortionsRefused(problem=f"Lists and shares stand at most {DEPTH_MAX} deep in each other.")


def names(of: Source | Target) -> set[str]:
    """The accounts that take part."""
    if isinstance(of, Account | To):
        return {of.name} if of.name else set()
    if isinstance(of, InOrder):
        return {name for each in of.items for name in names(each)}
    return {name for _, each in of.items for name in names(each)}


def available(sums: Mapping[str, tuple[int, int, int, int]]) -> dict[str, int]:
    """What accounts have to give: posted credits less posted and pending debits."""
    return {name: credits - debits - held for name, (debits, credits, held, _) in sums.items()}
