"""What is asked of the press, and what it answers."""

from dataclasses import dataclass

from services.billing.documents.en16931 import Syntax
from services.billing.documents.page import Style
from services.billing.documents.standard import Finding
from services.billing.domain.document import Document

LENGTH = ">I"  # Of what follows, in bytes.
FRAME_BYTES_MAX = 64 * 1024 * 1024  # Of an answer; a page takes about 2 kB.


@dataclass(frozen=True, kw_only=True)
class Make:
    """Make a document: a PDF with its XML inside where it can have one, or the XML alone."""

    document: Document
    style: Style
    format: Syntax | None = None  # None: PDF.


@dataclass(frozen=True, kw_only=True)
class Check:
    """Say what the standard's rules find in an XML document."""

    content: bytes


@dataclass(frozen=True, kw_only=True)
class Order:
    """One of the two."""

    make: Make | None = None
    check: Check | None = None


@dataclass(frozen=True, kw_only=True)
class Made:
    """A document."""

    content: bytes
    electronic: bool = False  # It is an e-invoice, or holds one, that keeps every rule.
    broken: tuple[str, ...] = ()  # Rules that keep it from being one.


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was found in an XML document."""

    findings: tuple[Finding, ...] = ()
    unreadable: str = ""  # Why it is no invoice at all.


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Of these, one."""

    made: Made | None = None
    report: Report | None = None
    failed: str = ""  # A bug: what went wrong.
