"""The book by itself: whatever is asked in whatever order, debits equal credits and no limit is broken."""

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from uuid import UUID

from hypothesis import given, strategies as some

from services.chassis.errors import Refusal
from services.ledger.domain.account import Limit, Sums
from services.ledger.domain.book import Book, Wanted
from services.ledger.domain.entry import FIRST_PREVIOUS, Entry, Kind

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ACCOUNTS = [UUID(int=n) for n in range(1, 6)]
LIMITS = [Limit.NONE, Limit.NONE, Limit.DEBITS_NOT_ABOVE_CREDITS, Limit.CREDITS_NOT_ABOVE_DEBITS, Limit.NONE]


def opened() -> Book:
    """Three accounts in euro, two in yen."""
    sums = {
        account_id: Sums(account_id, "EUR" if n < 4 else "JPY", limit, 0, False, 0, 0, 0, 0)
        for n, (account_id, limit) in enumerate(zip(ACCOUNTS, LIMITS, strict=True))
    }
    return Book(0, FIRST_PREVIOUS, sums, {}, {})


@some.composite
def wishes(draw: some.DrawFn) -> list[Wanted]:
    """New transfers and resolutions of earlier ones, some linked, ids at times used twice."""
    made = []
    for _ in range(draw(some.integers(1, 30))):
        number = draw(some.integers(1, 8))
        kind = draw(some.sampled_from(Kind))
        wanted = Wanted(
            transfer_id=UUID(int=100 + number),
            kind=kind,
            asked=b"",
            linked=draw(some.booleans()) and draw(some.booleans()),
            amount_minor=draw(some.integers(1, 50)),
        )
        if kind.resolves:
            wanted.pending_id = UUID(int=100 + draw(some.integers(1, 8)))
        else:
            wanted.debit_account_id = draw(some.sampled_from(ACCOUNTS))
            wanted.credit_account_id = draw(some.sampled_from(ACCOUNTS))
            wanted.currency = draw(some.sampled_from(["EUR", "EUR", "EUR", "JPY"]))
            wanted.expire_at = draw(some.sampled_from([None, NOW, NOW + timedelta(days=1)]))
        wanted.body = sha256(repr(wanted).encode()).digest()
        made.append(wanted)
    return made


def states(book: Book) -> dict[UUID, tuple[int, int, int, int]]:
    return {account_id: sums.state() for account_id, sums in book.accounts.items()}


@given(some.lists(wishes(), min_size=1, max_size=4))
def test_each_batch_keeps_every_rule_of_the_ledger(batches: list[list[Wanted]]) -> None:
    book, previous = opened(), FIRST_PREVIOUS
    for batch in batches:
        outcomes = book.book(batch, NOW)
        assert len(outcomes) == len(batch)
        for sums in book.accounts.values():
            debits, credits, held_debits, held_credits = sums.state()
            assert min(sums.state()) >= 0
            if sums.limit == Limit.DEBITS_NOT_ABOVE_CREDITS:
                assert debits + held_debits <= credits
            if sums.limit == Limit.CREDITS_NOT_ABOVE_DEBITS:
                assert credits + held_credits <= debits
        for currency in ("EUR", "JPY"):
            of = [sums.state() for sums in book.accounts.values() if sums.currency == currency]
            assert sum(each[0] for each in of) == sum(each[1] for each in of)
            assert sum(each[2] for each in of) == sum(each[3] for each in of)
    resolved = [entry.pending_id for entry in book.written if entry.pending_id]
    assert len(resolved) == len(set(resolved))
    for number, entry in enumerate(book.written, 1):
        assert entry.sequence == number
        assert entry.sealed(previous) == entry.hash
        previous = entry.hash
    assert (book.sequence, book.hash) == (len(book.written), previous)


@given(wishes(), wishes())
def test_a_chain_with_one_refusal_leaves_no_trace(before: list[Wanted], chain: list[Wanted]) -> None:
    book = opened()
    book.book(before, NOW)
    for wanted in chain:
        wanted.linked = True
    bad = Wanted(UUID(int=999), Kind.VOID, b"", pending_id=UUID(int=998))
    was = states(book), book.sequence, book.hash, list(book.written), dict(book.known), dict(book.resolved)
    outcomes = book.book([*chain, bad], NOW)
    assert all(isinstance(each, Refusal) for each in outcomes)
    assert was == (states(book), book.sequence, book.hash, book.written, book.known, book.resolved)


@given(wishes())
def test_asking_again_changes_nothing(wanted: list[Wanted]) -> None:
    book = opened()
    first = book.book(wanted, NOW)
    was = states(book), book.sequence
    stood = [each for each, outcome in zip(wanted, first, strict=True) if isinstance(outcome, Entry)]
    for each in stood:
        each.linked = False
    again = book.book(stood, NOW)
    assert [each for each in first if isinstance(each, Entry)] == again
    assert was == (states(book), book.sequence)
