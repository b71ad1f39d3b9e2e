"""Texts as search sees them: words without case and accents, and the slugs made from titles."""

import re
import unicodedata
from collections.abc import Iterable, Sequence

WORD = re.compile(r"[^\W_]+")
LETTERS = re.compile(r"[^\W\d_]{3,40}")  # A word that is misspelled; codes are right or wrong.
WORD_CHARS_MAX = 60  # What is longer is no word that anybody types.
POSITION_MAX = 16_383  # Of a tsvector; later words are counted at the last.
WORDS_MAX = 4_000  # Of one weight; a description of 20,000 bytes has fewer.
QUERY_WORDS_MAX = 12  # Each costs a search of its own in the index.
SLUG_CHARS_MAX = 120  # As the contract has it.
SLUG_MARK_CHARS = 9  # `-` and 8 of the product's id.


def fold(text: str) -> str:
    """Lower case without accents: `Água` and `agua`, `Straße` and `strasse` are one."""
    spread = unicodedata.normalize("NFKD", text.casefold())
    return unicodedata.normalize("NFC", "".join(c for c in spread if not unicodedata.combining(c)))


def words(text: str) -> list[str]:
    """In their order, folded and cut."""
    return [word[:WORD_CHARS_MAX] for word in WORD.findall(fold(text))]


def code_words(code: str) -> list[str]:
    """A sku or GTIN as one word, and its parts: `AB-12` is found as `ab12`, `ab` and `12`."""
    parts = words(code)
    whole = "".join(parts)[:WORD_CHARS_MAX]
    return list(dict.fromkeys([whole, *parts])) if whole else []


def vector(weighted: Iterable[tuple[str, Sequence[str]]]) -> str:
    """Words by weight (`A` counts most) as PostgreSQL reads a tsvector; equal texts give equal ones."""
    places: dict[str, list[str]] = {}
    position = 0
    for weight, found in weighted:
        for word in found[:WORDS_MAX]:
            position = min(position + 1, POSITION_MAX)
            places.setdefault(word, []).append(f"{position}{weight}")
    return " ".join(f"'{word}':{','.join(at[:100])}" for word, at in sorted(places.items()))


def query(readings: Sequence[Sequence[str]]) -> str:
    """All words, each read in any of its ways, whole or as a beginning, as PostgreSQL reads a tsquery."""
    return " & ".join("(" + " | ".join(f"'{way}':*" for way in ways) + ")" for ways in readings if ways)


def correctable(word: str) -> bool:
    return LETTERS.fullmatch(word) is not None


def vocabulary(found: Iterable[str]) -> set[str]:
    """The words that a misspelled one may have meant."""
    return {word for word in found if correctable(word)}


def slug_of(title: str, product_id: str) -> str:
    """From the title's words in ASCII; a title without any gives one from the id."""
    parts = re.findall(r"[a-z0-9]+", fold(title).encode("ascii", "ignore").decode())
    slug = "-".join(parts)[: SLUG_CHARS_MAX - SLUG_MARK_CHARS].strip("-")
    return slug or f"product-{product_id[:8]}"


def marked_slug(slug: str, product_id: str) -> str:
    """Another, for when the first leads to another product."""
    return f"{slug[: SLUG_CHARS_MAX - SLUG_MARK_CHARS].rstrip('-')}-{product_id.replace('-', '')[:8]}"
