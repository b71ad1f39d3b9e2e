"""Path templates of google.api.http (`/v1/users/{user_id}:suspend`) as Envoy's matchers."""

from __future__ import annotations

import re
from dataclasses import dataclass

VARIABLE = re.compile(r"\{([^{}=]+)(?:=([^{}]+))?\}")
SEGMENT = r"[^/?]+"
REST = r"[^?]*"
COLLECTION = 2  # Leading segments by which routes are grouped: version and collection.


@dataclass(frozen=True)
class Template:
    """A path template."""

    text: str

    @property
    def bare(self) -> str:
        """The template with its variables' names away: `/v1/users/*:suspend`."""
        return VARIABLE.sub(lambda found: found.group(2) or "*", self.text)

    @property
    def regex(self) -> str:
        """RE2 expression that the whole path, without query, matches."""
        parts = re.split(r"(\*\*|\*)", self.bare)
        wild = {"*": SEGMENT, "**": REST}
        return "".join(wild.get(part) or re.escape(part) for part in parts)

    @property
    def literal(self) -> bool:
        """No variable and no wildcard: the path itself."""
        return "*" not in self.bare

    @property
    def prefix(self) -> str:
        """What every path of the template begins with, as far as its collection: `/v1/users`."""
        literal = self.bare.split("*", 1)[0].split(":", 1)[0]
        return "/" + "/".join(literal.split("/")[1 : 1 + COLLECTION])

    @property
    def variables(self) -> list[str]:
        """Field paths that the path binds."""
        return [found.group(1) for found in VARIABLE.finditer(self.text)]

    @property
    def rank(self) -> tuple[tuple[int, str], ...]:
        """Sorts the more specific first: a literal segment before `*` before `**`, a verb before none."""
        path, _, verb = (
            self.bare.rpartition(":") if ":" in self.bare.rsplit("/", 1)[-1] else (self.bare, "", "")
        )
        segments = path.strip("/").split("/")
        kinds = {"*": 1, "**": 2}
        ranks = [(kinds.get(segment, 0), segment) for segment in segments]
        return (*ranks, (0 if verb else 1, verb))
