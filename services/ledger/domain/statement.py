"""A statement as a file: CSV, or ISO 20022 camt.053.001.08."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID
from xml.sax.saxutils import escape

from services.chassis.money import EXACT, exponent

NAMESPACE = "urn:iso:std:iso:20022:tech:xsd:camt.053.001.08"
FORMULA = ("=", "+", "@", "\t", "\r")
HEADER = (
    "effective_time", "record_time", "transfer_id", "other_account_id", "code", "reference",
    "amount", "balance", "currency",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Movement:
    """One posted movement of an account; minor units, debits positive."""

    transfer_id: UUID
    other: UUID
    debit: int
    balance: int
    code: str
    reference: str
    effective_at: datetime
    recorded_at: datetime
    sequence: int


@dataclass(frozen=True, slots=True)
class Head:
    """What a statement is of. Balances are debits less credits."""

    account_code: str
    account_id: UUID
    currency: str
    start: datetime
    end: datetime
    made_at: datetime
    opening: int
    closing: int


def csv_head() -> str:
    return _line(HEADER)


def csv_lines(head: Head, movements: Sequence[Movement]) -> str:
    return "".join(
        _line(
            (
                each.effective_at.isoformat(),
                each.recorded_at.isoformat(),
                str(each.transfer_id),
                str(each.other),
                each.code,
                each.reference,
                _major(each.debit, head.currency),
                _major(each.balance, head.currency),
                head.currency,
            )
        )
        for each in movements
    )


def _line(values: Sequence[str]) -> str:
    """RFC 4180. A leading sign of a formula is defused, for people open such files in spreadsheets."""
    text = io.StringIO()
    csv.writer(text).writerow([f"'{value}" if value.startswith(FORMULA) else value for value in values])
    return text.getvalue()


def camt_head(head: Head) -> str:
    stated = f"{head.start:%Y%m%d}-{head.end:%Y%m%d}"
    return "".join(
        (
            f'<?xml version="1.0" encoding="UTF-8"?>\n<Document xmlns="{NAMESPACE}"><BkToCstmrStmt>',
            f"<GrpHdr><MsgId>{head.account_id.hex}</MsgId><CreDtTm>{_time(head.made_at)}</CreDtTm></GrpHdr>",
            f"<Stmt><Id>{stated}</Id><CreDtTm>{_time(head.made_at)}</CreDtTm>",
            f"<FrToDt><FrDtTm>{_time(head.start)}</FrDtTm><ToDtTm>{_time(head.end)}</ToDtTm></FrToDt>",
            f"<Acct><Id><Othr><Id>{head.account_id.hex}</Id></Othr></Id><Ccy>{head.currency}</Ccy>",
            f"<Nm>{escape(head.account_code[:70])}</Nm></Acct>",
            _balance("OPBD", head.opening, head.currency, head.start),
            _balance("CLBD", head.closing, head.currency, head.end),
        )
    )


def camt_entries(head: Head, movements: Sequence[Movement]) -> str:
    return "".join(_entry(each, head.currency) for each in movements)


def camt_foot() -> str:
    return "</Stmt></BkToCstmrStmt></Document>\n"


def _entry(each: Movement, currency: str) -> str:
    # A bank's statement sees the account from outside: what we debit, it credits.
    side = "CRDT" if each.debit > 0 else "DBIT"
    amount = _major(abs(each.debit), currency)
    return "".join(
        (
            f'<Ntry><NtryRef>{each.sequence}</NtryRef><Amt Ccy="{currency}">{amount}</Amt>',
            f"<CdtDbtInd>{side}</CdtDbtInd><Sts><Cd>BOOK</Cd></Sts>",
            f"<BookgDt><DtTm>{_time(each.recorded_at)}</DtTm></BookgDt>",
            f"<ValDt><DtTm>{_time(each.effective_at)}</DtTm></ValDt>",
            f"<AcctSvcrRef>{each.transfer_id.hex}</AcctSvcrRef>",
            f"<BkTxCd><Prtry><Cd>{escape(each.code or 'transfer')}</Cd></Prtry></BkTxCd>",
            f"<AddtlNtryInf>{escape(each.reference)}</AddtlNtryInf></Ntry>",
        )
    )


def _balance(kind: str, minor: int, currency: str, at: datetime) -> str:
    side = "CRDT" if minor >= 0 else "DBIT"
    return (
        f"<Bal><Tp><CdOrPrtry><Cd>{kind}</Cd></CdOrPrtry></Tp>"
        f'<Amt Ccy="{currency}">{_major(abs(minor), currency)}</Amt><CdtDbtInd>{side}</CdtDbtInd>'
        f"<Dt><DtTm>{_time(at)}</DtTm></Dt></Bal>"
    )


def _major(minor: int, currency: str) -> str:
    """Sums may be larger than an amount may."""
    return f"{Decimal(minor).scaleb(-exponent(currency), EXACT):f}"


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%S}Z"


def pieces(text: str, most: int) -> Iterator[bytes]:
    """In pieces of at most `most` bytes."""
    raw = text.encode()
    for start in range(0, len(raw), most):
        yield raw[start : start + most]
