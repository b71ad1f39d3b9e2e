"""Words that orders are found by."""

import re
import unicodedata
from collections.abc import Iterable

from services.order.domain.refusals import NoWords

WORD_CHARS_MAX = 64  # A longer one is no word; PostgreSQL takes 2,046 bytes.
WORDS_MAX = 2_000  # Of one order; the words of 500 lines repeat themselves.
QUERY_WORDS_MAX = 10  # More make nothing clearer.
PART = re.compile(r"[^\W_]+")


def words(texts: Iterable[str]) -> list[str]:
    """Each word of the texts once: as it stands between spaces, and its parts of letters and digits."""
    found: dict[str, None] = {}
    for text in texts:
        for chunk in _plain(text).split():
            parts = PART.findall(chunk)
            found |= dict.fromkeys(part[:WORD_CHARS_MAX] for part in parts)
            if len(parts) > 1:
                found[chunk.strip(".,;:()\"'")[:WORD_CHARS_MAX]] = None
    return list(found)[:WORDS_MAX]


def query(text: str) -> str:
    """A tsquery in PostgreSQL's own writing: all words; `wo*` is a beginning. Raises NoWords."""
    wanted: list[str] = []
    for chunk in _plain(text).split():
        parts = [f"'{part[:WORD_CHARS_MAX]}'" for part in PART.findall(chunk)]
        if parts and chunk.endswith("*"):
            parts[-1] += ":*"
        wanted += parts
    if not wanted:
        raise NoWords(field="text")
    return " & ".join(wanted[:QUERY_WORDS_MAX])


def _plain(text: str) -> str:
    """In lower case and without accents: as people type who have no such keys."""
    letters = unicodedata.normalize("NFKD", text.casefold())
    return "".join(each for each in letters if not unicodedata.combining(each)).replace("\0", " ")
