"""Lists that an operator brings as files: common passwords, domains of throw-away mail."""

import gzip
from dataclasses import dataclass
from pathlib import Path

from services.chassis.config import BadSetting
from services.identity.domain.password import WORST, normalized
from services.identity.settings import PREFIX, IdentitySettings

LINES_MAX = 5_000_000  # About 500 MB in memory; longer lists want another structure.


@dataclass(frozen=True, slots=True, kw_only=True)
class WordLists:
    """What is refused at registration."""

    common_passwords: frozenset[str]
    disposable_domains: frozenset[str]


def read(settings: IdentitySettings) -> WordLists:
    """Raises BadSetting when a file that was named cannot be read."""
    passwords = _lines(settings.common_passwords_file, "COMMON_PASSWORDS_FILE")
    domains = _lines(settings.disposable_domains_file, "DISPOSABLE_DOMAINS_FILE")
    return WordLists(
        common_passwords=WORST | {normalized(line).casefold() for line in passwords},
        disposable_domains=frozenset(line.lower() for line in domains if not line.startswith(("#", "//"))),
    )


def _lines(name: str, setting: str) -> list[str]:
    if not name:
        return []
    try:
        raw = Path(name).read_bytes()
        text = (gzip.decompress(raw) if name.endswith(".gz") else raw).decode()
    except (OSError, UnicodeDecodeError, EOFError) as error:
        raise BadSetting(f"{PREFIX}{setting} cannot be read: {type(error).__name__}") from None
    lines = [line.strip() for line in text.splitlines()]
    if len(lines) > LINES_MAX:
        raise BadSetting(f"{PREFIX}{setting} has more than {LINES_MAX} lines")
    return [line for line in lines if line]
