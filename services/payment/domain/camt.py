"""Bank statements as files: ISO 20022 camt.053, versions 1 and up, whatever the namespace says beside that.

Elements are found by their local names; what differs between versions (`Sts` or `Sts/Cd`, `Dbtr` or
`Dbtr/Pty`) is read either way. Nothing outside the file is loaded, and no entity is expanded.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NoReturn

from services.chassis.errors import InvalidArgument
from services.chassis.money import Money
from services.payment.domain.statement import (
    ENTRIES_MAX,
    FILE_BYTES_MAX,
    TEXT_CHARS_MAX,
    ReadEntry,
    ReadStatement,
    StatementTooLarge,
    StatementUnreadable,
)

FORMAT = re.compile(r"camt\.053(\.\d{3}\.\d{2})?")
WRITTEN = (
    "Refs/EndToEndId",
    "Refs/InstrId",
    "Refs/TxId",
    "RmtInf/Ustrd",
    "RmtInf/Strd/CdtrRefInf/Ref",
    "RmtInf/Strd/CdtrRefInf/CdtrRef",
    "RmtInf/Strd/AddtlRmtInf",
    "AddtlTxInf",
)


def read(data: bytes) -> list[ReadStatement]:
    """The statements of a file. Raises StatementUnreadable, StatementTooLarge."""
    if len(data) > FILE_BYTES_MAX:
        raise StatementTooLarge(max=FILE_BYTES_MAX, what="bytes", field="file")
    root = _root(data)
    name = root.tag.rpartition("}")[0].rpartition(":")[2]
    if not FORMAT.fullmatch(name):
        _refuse(f"its namespace is `{name[:60]}`")
    found = [_statement(each, name) for each in _all(root, "BkToCstmrStmt/Stmt")]
    if not found:
        _refuse("there is no statement in it")
    if sum(len(each.entries) for each in found) > ENTRIES_MAX:
        raise StatementTooLarge(max=ENTRIES_MAX, what="entries", field="file")
    return found


def _root(data: bytes) -> Any:
    from lxml import etree

    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, remove_comments=True
    )
    try:
        root = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise StatementUnreadable(problem=f"it is no XML ({str(error)[:100]})", field="file") from None
    if root.getroottree().docinfo.doctype:
        _refuse("it declares a document type")
    return root


def _refuse(problem: str) -> NoReturn:
    """Raises StatementUnreadable."""
    raise StatementUnreadable(problem=problem, field="file")


def _statement(node: Any, name: str) -> ReadStatement:
    account = _text(node, "Acct/Id/IBAN") or _text(node, "Acct/Id/Othr/Id") or _refuse("it names no account")
    bank_id = _text(node, "Id") or _refuse("a statement has no Id")
    entries = [entry for each in _all(node, "Ntry") if _booked(each) for entry in _entries(each)]
    return ReadStatement(
        bank_id=bank_id[:100],
        account=re.sub(r"\s", "", account)[:100],
        format=name,
        made_at=_time(_text(node, "CreDtTm")),
        entries=tuple(entries),
    )


def _booked(entry: Any) -> bool:
    """Whether it happened: what is only announced or for information comes again when it is booked."""
    return (_text(entry, "Sts/Cd") or _text(entry, "Sts")) == "BOOK"


def _entries(node: Any) -> Iterator[ReadEntry]:
    """An entry, or the transactions that a batch sums up, where each says its amount."""
    details = _all(node, "NtryDtls/TxDtls")
    whole = _amount(node, node)
    parts = [_part(each, whole, node) for each in details]
    if len(parts) > 1 and all(parts) and sum(part.minor for part in parts if part) == whole.minor:
        for detail, part in zip(details, parts, strict=True):
            if part:
                yield _entry(node, part, [detail])
    else:
        yield _entry(node, whole, details)


def _part(detail: Any, whole: Money, node: Any) -> Money | None:
    """The amount of one transaction in the entry's currency, if it is told."""
    for path in ("Amt", "AmtDtls/TxAmt/Amt"):
        for found in _all(detail, path):
            if found.get("Ccy") == whole.currency:
                return _signed(found, detail if _all(detail, "CdtDbtInd") else node)
    return None


def _entry(node: Any, amount: Money, details: list[Any]) -> ReadEntry:
    side = "Dbtr" if amount.minor >= 0 else "Cdtr"
    written = [text for detail in details for path in WRITTEN for text in _texts(detail, path)]
    written += [*_texts(node, "AddtlNtryInf"), *_texts(node, "NtryRef")]
    detail = details[0] if details else node
    names = _texts(detail, f"RltdPties/{side}/Nm") + _texts(detail, f"RltdPties/{side}/Pty/Nm")
    accounts = _texts(detail, f"RltdPties/{side}Acct/Id/IBAN")
    own = _text(detail, "Refs/AcctSvcrRef") or _text(node, "AcctSvcrRef")
    return ReadEntry(
        amount=amount,
        value_at=_date(node, "ValDt") or _date(node, "BookgDt") or _refuse("an entry has no date"),
        service_ref=own[:100],
        reversal=_text(node, "RvslInd") == "true",
        party=(names or [""])[0][:200],
        party_account=re.sub(r"\s", "", (accounts or [""])[0])[:40],
        text="\n".join(written)[:TEXT_CHARS_MAX],
    )


def _amount(node: Any, sign: Any) -> Money:
    found = _all(node, "Amt")
    return _signed(found[0], sign) if found else _refuse("an entry has no amount")


def _signed(amount: Any, node: Any) -> Money:
    """Less than nothing for a debit. Raises StatementUnreadable."""
    way = _text(node, "CdtDbtInd")
    if way not in ("CRDT", "DBIT"):
        _refuse("an entry is neither CRDT nor DBIT")
    try:
        money = Money.parse((amount.text or "").strip(), amount.get("Ccy") or "")
    except InvalidArgument as error:
        raise StatementUnreadable(problem=str(error)[:200], field="file") from None
    if money.minor < 0:
        _refuse("an amount is negative")
    return money if way == "CRDT" else -money


def _date(node: Any, path: str) -> datetime | None:
    text = _text(node, f"{path}/DtTm") or _text(node, f"{path}/Dt")
    return _time(text) if text else None


def _time(text: str) -> datetime:
    """Without a zone: UTC. Raises StatementUnreadable."""
    try:
        at = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text))
    except ValueError:
        _refuse(f"`{text[:40]}` is no time")
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _all(node: Any, path: str) -> list[Any]:
    return list(node.findall("/".join(f"{{*}}{step}" for step in path.split("/"))))


def _texts(node: Any, path: str) -> list[str]:
    return [each.text.strip() for each in _all(node, path) if each.text and each.text.strip()]


def _text(node: Any, path: str) -> str:
    return (_texts(node, path) or [""])[0]
