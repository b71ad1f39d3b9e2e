"""Texts out of templates: subject, plain text and HTML in the recipient's language and zone.

Each template is written once; `blocks.html` and `blocks.txt` say what a paragraph, a button or a table
is in either form. Templates run in Jinja's sandbox; in HTML every value is escaped.
"""

import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from babel.dates import format_date, format_time
from jinja2 import FileSystemLoader, StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup

from services.notification.catalogue import FOLDER, Catalogue, Template, Value, plain
from services.notification.domain import Category

LINE_CHARS = 72  # Plain text is read in narrow windows; RFC 5322 §2.1.1 advises at most 78.
SUBJECT_CHARS_MAX = 200


@dataclass(frozen=True)
class Reader:
    """Whom a text is for."""

    locale: str  # As asked for; the closest language is taken.
    time_zone: str


@dataclass(frozen=True)
class Rendered:
    """A message's texts."""

    locale: str
    subject: str
    text: str
    html: str


class Renderer:
    """All templates, compiled once."""

    def __init__(self, catalogue: Catalogue, product: str, folder: Path = FOLDER) -> None:
        self._catalogue, self._product = catalogue, product
        self._html = _environment(folder, "html")
        self._text = _environment(folder, "txt")

    def render(
        self, template: Template, given: Mapping[str, str], reader: Reader, unsubscribe_url: str = ""
    ) -> Rendered:
        """Raises MissingValue, BadValue."""
        locale = self._catalogue.locale(reader.locale)
        words = self._catalogue.words[locale]
        facts: dict[str, Any] = {
            **template.values(given),
            "locale": locale,
            "product": self._product,
            "words": words,
            "footer": words[_footer(template)].format(product=self._product),
            "unsubscribe_url": "" if template.category is Category.SECURITY else unsubscribe_url,
            "moment": _moment(locale, zone(reader.time_zone)),
        }
        facts["subject"] = self._subject(f"{locale}/{template.name}.j2", facts)
        html = self._page(self._html, template, facts)
        text = self._page(self._text, template, facts)
        return Rendered(locale, facts["subject"], _tidied(text), html)

    def unsubscribe_page(self, wanted_locale: str, *, done: bool) -> str:
        """What the unsubscribe link shows; its form posts to the link itself."""
        locale = self._catalogue.locale(wanted_locale)
        page = self._html.get_template("unsubscribe.html")
        words = self._catalogue.words[locale]
        return page.render(locale=locale, words=words, done=done, product=self._product)

    def _subject(self, name: str, facts: dict[str, Any]) -> str:
        template = self._text.get_template(name)
        block = template.blocks["subject"](template.new_context({**facts, **_helpers(self._text, facts)}))
        return plain("".join(block))[:SUBJECT_CHARS_MAX]

    def _page(
        self, environment: ImmutableSandboxedEnvironment, template: Template, facts: dict[str, Any]
    ) -> str:
        page = environment.get_template(f"{facts['locale']}/{template.name}.j2")
        return page.render({**facts, **_helpers(environment, facts)})


def zone(name: str) -> tzinfo:
    """UTC when there is no such zone."""
    try:
        return ZoneInfo(name) if name else UTC
    except (KeyError, ValueError, OSError):
        return UTC


def _environment(folder: Path, form: str) -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        loader=FileSystemLoader(folder),
        autoescape=form == "html",
        undefined=StrictUndefined,
        trim_blocks=form == "html",
        auto_reload=False,
    )
    environment.globals["layout"] = f"layout.{form}"
    environment.filters["paragraph"] = _wrapped
    return environment


def _helpers(environment: ImmutableSandboxedEnvironment, facts: dict[str, Any]) -> dict[str, Any]:
    """What templates build their texts from, in this form and language."""
    form = str(environment.globals["layout"]).rpartition(".")[2]
    blocks: Any = environment.get_template(f"blocks.{form}").module
    words, name = facts["words"], facts.get("display_name", "")
    pattern = words["greeting"] if name else words["greeting_plain"]
    marked: Any = Markup(pattern) if form == "html" else pattern
    bdi: Any = Markup("<bdi>{}</bdi>").format(name) if form == "html" else name
    return {
        "p": blocks.p,
        "code_box": blocks.code,
        "facts": blocks.facts,
        "button": lambda label, url: blocks.button(label, url, words["link_help"]),
        "greeting": lambda: blocks.p(caller=lambda: marked.format(name=bdi)),
    }


def _footer(template: Template) -> str:
    return "security" if template.category is Category.SECURITY else "service"


def _moment(locale: str, where: tzinfo) -> Callable[[Value], str]:
    def told(value: Value) -> str:
        if not isinstance(value, datetime):
            return ""
        local = value.astimezone(where)
        day, hour = format_date(local, "long", locale), format_time(local, "short", locale=locale)
        return plain(f"{day}, {hour} ({getattr(where, 'key', 'UTC')})".replace("\u202f", " "))

    return told


def _wrapped(text: str) -> str:
    return textwrap.fill(" ".join(text.split()), LINE_CHARS, break_long_words=False, break_on_hyphens=False)


def _tidied(text: str) -> str:
    """At most one empty line in a row, one line break at the end."""
    lines = [line.rstrip() if line != "-- " else line for line in text.strip().splitlines()]
    kept = [line for n, line in enumerate(lines) if line or (n and lines[n - 1])]
    return "\n".join(kept) + "\n"
