"""The unit tests of the standard's own authors: 277 files, each saying which rule must pass or fail."""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from lxml import etree

from services.billing.documents.pressing import Press
from tests.data import shared

VEFA = "{http://difi.no/xsd/vefa/validator/1.0}"
ARCHIVE = "07_invoices_en16931/en16931_ubl_cii_tests.tar.gz"


@dataclass(frozen=True)
class Case:
    """One invoice or credit note, and what is said of it."""

    file: str
    content: bytes
    passes: frozenset[str]
    fails: frozenset[str]


def cases() -> Iterator[Case]:
    for name, content in members("test/"):
        for test in etree.fromstring(content).findall(f"{VEFA}test"):
            said, document = test.find(f"{VEFA}assert"), test[-1]
            assert said is not None
            yield Case(
                name, etree.tostring(document), rules(said, "success"), rules(said, "error", "warning")
            )


def rules(said: Any, *kinds: str) -> frozenset[str]:
    return frozenset(each.text.strip() for kind in kinds for each in said.findall(f"{VEFA}{kind}"))


def members(prefix: str) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(shared(ARCHIVE)) as archive:
        for member in archive:
            name = member.name.removeprefix("./")
            if member.isfile() and name.startswith(prefix):
                file = archive.extractfile(member)
                assert file
                yield name, file.read()


async def test_all_277_files_get_the_verdict_that_they_expect(press: Press) -> None:
    wrong, files, said = [], set[str](), 0
    for case in cases():
        found = {finding.rule for finding in (await press.check(case.content)).findings}
        files.add(case.file)
        said += len(case.passes) + len(case.fails)
        if case.passes & found or case.fails - found:
            wrong.append((case.file, case.passes & found, case.fails - found))
    assert wrong == []
    assert (len(files), said) == (277, 1133)


async def test_the_standards_own_examples_are_valid(press: Press) -> None:
    found = {}
    for name, content in members("ubl/examples/"):
        report = await press.check(content)
        found[name] = {finding.rule for finding in report.findings if finding.fatal} or report.unreadable
    assert len(found) == 19
    assert {name: rules for name, rules in found.items() if rules} == {}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "empty"),
        (b"%PDF-1.7", "Start tag expected"),
        (b"<Invoice", "Couldn't find end of Start Tag"),
        (b"<html/>", "neither a UBL invoice"),
        (
            b'<!DOCTYPE Invoice [<!ENTITY x SYSTEM "file:///etc/passwd">]><Invoice>&x;</Invoice>',
            "document type",
        ),
        (
            b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;">]><Invoice>&b;</Invoice>',
            "document type",
        ),
        (b"<Invoice>" * 300 + b"</Invoice>" * 300, "depth"),
        (b"\xff\xfe\x00\xd8", ""),
    ],
)
async def test_what_is_no_invoice_is_said_to_be_none(press: Press, content: bytes, why: str) -> None:
    report = await press.check(content)
    assert why.lower() in report.unreadable.lower()
    assert report.unreadable
