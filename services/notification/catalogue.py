"""The templates there are: why each is sent, which values it takes, in which languages it is written."""

import re
import tomllib
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from services.notification.domain import BadValue, Category, MissingValue, UnknownTemplate

FOLDER = Path(__file__).parent / "templates"
FALLBACK = "en"
NAME_CHARS_MAX = 64  # A longer display name is a text, not a name; the greeting does without.

Kind = Literal["text", "link", "time", "facts"]
Facts = list[tuple[str, str]]
Value = str | datetime | Facts

# Bidirectional controls (UAX #9) that would turn the text around them.
BIDI = {*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C}
RULES = {
    "link": "an http or https URL without spaces",
    "time": "an RFC 3339 time with its offset, such as 2026-01-02T15:04:05Z",
    "facts": "lines of a label, a tab and a value",
}
# What mail programs turn into links: a name that holds one makes our mail carry a stranger's advertisement.
LINK_LIKE = re.compile(r"://|www\.|@|\w\.\w\w", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Template:
    """One kind of message."""

    name: str
    category: Category
    required: Mapping[str, Kind]
    optional: Mapping[str, Kind]
    example: Mapping[str, str]

    def values(self, given: Mapping[str, str]) -> dict[str, Value]:
        """What its texts may use: checked, typed, absent ones empty. Raises MissingValue, BadValue.

        A value it does not know is ignored, so that senders may be ahead of their templates.
        """
        for name in self.required:
            if not given.get(name):
                raise MissingValue(template=self.name, value=name, field=f"values[{name!r}]")
        kinds = {**self.required, **self.optional}
        return {name: self._typed(name, kind, given.get(name, "")) for name, kind in kinds.items()}

    def _typed(self, name: str, kind: Kind, text: str) -> Value:
        if not text or kind == "text":
            return greetable(text) if name == "display_name" else plain(text)
        try:
            return READ[kind](text)
        except ValueError:
            field = f"values[{name!r}]"
            raise BadValue(template=self.name, value=name, rule=RULES[kind], field=field) from None


@dataclass(frozen=True)
class Catalogue:
    """All templates, and the fixed words of each language."""

    templates: Mapping[str, Template]
    words: Mapping[str, Mapping[str, str]]

    def template(self, name: str) -> Template:
        """Raises UnknownTemplate."""
        if name not in self.templates:
            raise UnknownTemplate(template=name)
        return self.templates[name]

    def locale(self, wanted: str) -> str:
        """The closest language there is (RFC 4647 lookup): `ru-RU` -> `ru`, unknown -> `en`."""
        subtags = wanted.replace("_", "-").lower().split("-")
        while subtags:
            if "-".join(subtags) in self.words:
                return "-".join(subtags)
            subtags.pop()
        return FALLBACK


def read(folder: Path = FOLDER) -> Catalogue:
    """Reads catalogue.toml."""
    raw = tomllib.loads((folder / "catalogue.toml").read_text(encoding="utf-8"))
    templates = {
        name: Template(
            name=name,
            category=Category(entry["category"]),
            required=entry.get("required", {}),
            optional=entry.get("optional", {}),
            example=entry["example"],
        )
        for name, entry in raw["templates"].items()
    }
    return Catalogue(templates, raw["locales"])


def plain(text: str) -> str:
    """One line without controls: nothing in it can break a header, a line or the direction of reading."""
    kept = (" " if _breaks(char) else char for char in text if ord(char) not in BIDI)
    return " ".join("".join(kept).split())


def greetable(name: str) -> str:
    """`name` as a greeting may use it; empty when it is more than a name.

    Anyone can write any name and any address into a registration form; what we send to that address
    must not carry their message.
    """
    cleaned = plain(name)
    return "" if len(cleaned) > NAME_CHARS_MAX or LINK_LIKE.search(cleaned) else cleaned


def link(text: str) -> str:
    """Raises ValueError."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or plain(text) != text or " " in text:
        raise ValueError(text)
    return text


def moment(text: str) -> datetime:
    """Raises ValueError."""
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(text)
    return at


def facts(text: str) -> Facts:
    """Raises ValueError."""
    pairs = [line.partition("\t") for line in text.split("\n") if line]
    made = [(plain(label), plain(value)) for label, _, value in pairs]
    if not made or not all(label and value for label, value in made):
        raise ValueError(text)
    return made


READ: Mapping[str, Callable[[str], Value]] = {"link": link, "time": moment, "facts": facts}


def _breaks(char: str) -> bool:
    """Controls, line and paragraph separators, lone surrogates."""
    return unicodedata.category(char) in ("Cc", "Zl", "Zp", "Cs")
