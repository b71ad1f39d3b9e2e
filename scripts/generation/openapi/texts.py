"""The comment of an rpc, taken apart: a summary, the rest, and the refusals it lists."""

from __future__ import annotations

import re
from dataclasses import dataclass

HEADING = re.compile(r"^Errors:\s*$", re.MULTILINE)
ERROR = re.compile(r"^\s+([A-Z_]+)\s+([A-Z][A-Z0-9_]*)\s*$")
SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z`\"])|\n\n")


@dataclass(frozen=True)
class Text:
    summary: str
    description: str
    errors: list[tuple[str, str]]  # Status code and reason, both upper case.


def text(comment: str) -> Text:
    prose, _, listed = _cut(comment)
    errors = [(match[1], match[2]) for match in map(ERROR.match, listed.splitlines()) if match]
    summary, *rest = SENTENCE.split(prose, maxsplit=1)
    return Text(" ".join(summary.split()).removesuffix("."), "".join(rest).strip(), errors)


def paragraphs(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part)


def _cut(comment: str) -> tuple[str, str, str]:
    heading = HEADING.search(comment)
    if heading is None:
        return comment.strip(), "", ""
    return comment[: heading.start()].strip(), heading[0], comment[heading.end() :]
