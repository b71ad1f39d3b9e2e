"""Every template in every language, with everything that people have ever put into a name."""

import email
import email.policy
import json
import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from uuid import uuid4

import pytest

from services.notification import catalogue, mime
from services.notification.catalogue import Template
from services.notification.domain import BadValue, Category
from services.notification.rendering import Reader, Rendered, Renderer
from tests.data import shared

KNOWN = catalogue.read()
RENDERER = Renderer(KNOWN, "Weft")
EVERY = [(template, locale) for template in KNOWN.templates.values() for locale in KNOWN.words]
TAGS = {
    *("html", "head", "meta", "title", "style", "body", "div", "table", "tbody", "tr", "td", "h1", "p"),
    *("a", "bdi", "br"),
}
IDS = [f"{template.name}-{locale}" for template, locale in EVERY]


class Tags(HTMLParser):
    """What a reader would make of it: tags, links, and whether they nest."""

    VOID = frozenset({"meta", "br"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.attributes: set[str] = set()
        self.links: list[str] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [value or "" for name, value in attrs if name == "href"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def naughty() -> list[str]:
    strings: list[str] = json.loads(shared("15_rpc_http/blns.json").read_text())
    assert len(strings) == 515
    return strings


def rendered(template: Template, locale: str, **values: str) -> Rendered:
    return RENDERER.render(template, {**template.example, **values}, Reader(locale, "Europe/Berlin"))


def source(texts: Rendered) -> bytes:
    envelope = mime.Envelope(
        message_id=uuid4(),
        mark="0" * 16,
        sender="Weft <no-reply@weft.example>",
        recipient="ada@example.com",
        written_at=datetime.now(UTC),
    )
    return mime.mail(envelope, texts)


@pytest.mark.parametrize(("template", "locale"), EVERY, ids=IDS)
def test_template_has_subject_text_and_sound_html(template: Template, locale: str) -> None:
    texts = rendered(template, locale)
    tags = Tags(texts.html)
    assert not tags.open
    assert tags.seen <= TAGS
    assert texts.locale == locale
    assert texts.subject
    assert f'lang="{locale}"' in texts.html
    assert set(tags.links) == ({template.example["link"]} if "link" in template.example else set())
    assert all(len(line) <= 78 or "://" in line for line in texts.text.splitlines())
    assert (re.search("[а-я]", texts.text + texts.subject) is not None) == (locale == "ru")
    for name in ("code", "device", "address", "place", "new_address"):
        if name in template.example:
            assert template.example[name] in texts.text
            assert template.example[name] in texts.html


@pytest.mark.parametrize(("template", "locale"), EVERY, ids=IDS)
def test_template_needs_only_what_it_says_it_needs(template: Template, locale: str) -> None:
    needed = {name: template.example[name] for name in template.required}
    texts = RENDERER.render(template, needed, Reader(locale, ""))
    assert "None" not in texts.text
    assert not Tags(texts.html).open


@pytest.mark.parametrize(("template", "locale"), EVERY, ids=IDS)
def test_naughty_strings_break_neither_html_nor_headers(template: Template, locale: str) -> None:
    usual = Tags(rendered(template, locale).html)
    texts_of = {name for name, kind in {**template.required, **template.optional}.items() if kind == "text"}
    for string in naughty():
        values = dict.fromkeys(texts_of, string)
        if any(name in template.required for name in texts_of) and not catalogue.plain(string):
            continue
        texts = rendered(template, locale, **values)
        tags = Tags(texts.html)
        assert tags.seen <= usual.seen | {"bdi"}, string
        assert tags.attributes <= usual.attributes, string
        assert tags.links == usual.links, string
        assert not tags.open, string
        assert "\n" not in texts.subject, string


def test_naughty_subjects_stay_one_header() -> None:
    for string in naughty():
        subject = f"About {catalogue.plain(string)}"
        raw = source(Rendered("en", subject, "text\n", "<p>text</p>"))
        parsed = email.message_from_bytes(raw, policy=email.policy.default)
        assert not parsed.defects, string
        assert len(parsed.keys()) == 9, string
        assert parsed["To"] == "ada@example.com"
        assert " ".join(parsed["Subject"].split()) == " ".join(subject.split()), string


def test_name_that_is_an_advertisement_is_not_greeted() -> None:
    template = KNOWN.template("confirm_email")
    for name in ("You won! http://evil.example", "visit www.evil.example", "evil.example", "a@b.c", "x" * 65):
        texts = rendered(template, "en", display_name=name)
        assert texts.text.startswith("Hello,\n")
        assert "evil" not in texts.html
    assert rendered(template, "en", display_name="Dr. O'Brien-Smith Jr.").text.startswith("Hello Dr. O'Brien")


@pytest.mark.parametrize(
    "link", ["javascript:alert(1)", "//evil.example", "data:text/html,x", "https:/x", "https://a b", "x"]
)
def test_link_that_is_none_is_refused(link: str) -> None:
    with pytest.raises(BadValue):
        rendered(KNOWN.template("confirm_email"), "en", link=link)


def test_facts_are_a_table_that_strange_strings_cannot_leave() -> None:
    template = KNOWN.template("low_stock")
    for string in naughty():
        if label := catalogue.plain(string):
            texts = rendered(template, "en", levels=f"{label}\t<b>1</b> / 2")
            assert Tags(texts.html).seen <= TAGS, string
            assert "<b>1</b> / 2" in texts.text, string


@pytest.mark.parametrize("facts", ["x", "x\t", "\t1", "\n", "a\t1\nb"])
def test_facts_that_are_none_are_refused(facts: str) -> None:
    with pytest.raises(BadValue):
        rendered(KNOWN.template("low_stock"), "en", levels=facts)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [("ru-RU", "ru"), ("ru_Cyrl_RU", "ru"), ("RU", "ru"), ("en-GB", "en"), ("de", "en"), ("", "en")],
)
def test_closest_language_is_taken(wanted: str, found: str) -> None:
    assert KNOWN.locale(wanted) == found


def test_times_are_told_in_the_reader_s_zone_and_language() -> None:
    template = KNOWN.template("password_changed")
    at = {"at": "2026-07-01T22:30:00Z"}
    assert "July 2, 2026, 12:30 AM (Europe/Berlin)" in rendered(template, "en", **at).text
    assert "2 июля 2026 г., 00:30 (Europe/Berlin)" in rendered(template, "ru", **at).text
    utc = RENDERER.render(template, {**template.example, **at}, Reader("en", "Nowhere/Land"))
    assert "July 1, 2026, 10:30 PM (UTC)" in utc.text


def test_only_security_messages_have_no_way_out() -> None:
    for template in KNOWN.templates.values():
        texts = RENDERER.render(template, template.example, Reader("en", ""), "https://weft.example/out")
        assert ("https://weft.example/out" in texts.html) == (template.category is Category.SERVICE)
