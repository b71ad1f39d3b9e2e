"""The process in which documents are made: reads orders from its standard input, writes what it made.

    python -m services.billing.documents.press

Orders and answers are MessagePack behind their length in four bytes. It opens no socket and no file but
those of its packages, and ends when its input does.
"""

import struct
import sys
from typing import IO

import msgspec

from services.billing.documents import en16931, hybrid, page, standard
from services.billing.documents.orders import LENGTH, Answer, Check, Made, Make, Order, Report
from services.billing.domain.document import Document

decoder = msgspec.msgpack.Decoder(Order)
encoder = msgspec.msgpack.Encoder()


def main() -> None:
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # A library that prints says it where it does no harm.
    while order := _read(source):
        answer = encoder.encode(_carry_out(decoder.decode(order)))
        sink.write(struct.pack(LENGTH, len(answer)) + answer)
        sink.flush()


def _read(source: IO[bytes]) -> bytes:
    """One order; empty when there are no more."""
    head = source.read(struct.calcsize(LENGTH))
    return source.read(struct.unpack(LENGTH, head)[0]) if head else b""


def _carry_out(order: Order) -> Answer:
    try:
        if order.check:
            return _check(order.check)
        assert order.make
        return _make(order.make)
    except Exception as error:
        return Answer(failed=f"{type(error).__name__}: {error}"[:2000])


def _check(order: Check) -> Answer:
    try:
        return Answer(report=Report(findings=tuple(standard.findings(order.content))))
    except standard.NotAnInvoice as error:
        return Answer(report=Report(unreadable=str(error)))


def _make(order: Make) -> Answer:
    document = order.document
    if order.format is en16931.Syntax.UBL:
        return Answer(made=_electronic(document, en16931.Syntax.UBL))
    if not document.electronic:
        return Answer(made=Made(content=page.pdf(document, order.style)))
    inside = _electronic(document, en16931.Syntax.CII)
    if order.format is en16931.Syntax.CII:
        return Answer(made=inside)
    if inside.broken:
        return Answer(made=Made(content=page.pdf(document, order.style), broken=inside.broken))
    whole = hybrid.declared(page.pdf(document, order.style, inside.content))
    return Answer(made=Made(content=whole, electronic=True))


def _electronic(document: Document, syntax: en16931.Syntax) -> Made:
    """The XML, and which rules of the standard it breaks."""
    content = en16931.xml(document, syntax)
    broken = {finding.rule for finding in standard.findings(content) if finding.fatal}
    return Made(content=content, electronic=not broken, broken=tuple(sorted(broken)))


if __name__ == "__main__":
    main()
