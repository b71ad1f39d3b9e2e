"""Filters of List requests: a subset of AIP-160, read into SQL conditions with bound parameters.

    state = ACTIVE AND (units >= 10 OR name:"foo*") AND NOT labels:"old"

`AND`, `OR` (which binds tighter, as AIP-160 has it), `NOT` or `-`, parentheses, and comparisons of a
declared field: `=  !=  <  <=  >  >=` and `:`, which says of a text that it contains the value (any case) or,
with a final `*`, begins with it; of a list that the value is in it; and with `*` alone that there is a value.
`null` is the absence of a value. A comparison is never unknown: NOT gives exactly the rest.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, NoReturn
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, ColumnElement, and_, any_, false, literal, not_, or_, true

from services.chassis.errors import InvalidArgument

FILTER_CHARS_MAX = 2_000
DEPTH_MAX = 10  # Parentheses and NOTs inside each other.
COMPARISONS_MAX = 50
TOKEN = re.compile(
    r"\s*(?:(?P<string>\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*')|(?P<sign><=|>=|!=|[=<>:()])|(?P<word>[^\s()\"'=!<>:]+))"
)
ARGUMENT = re.compile(r"\s*(?P<string>\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*')|\s*(?P<word>[^\s()\"']+)")
SIGNS = ("=", "!=", "<", "<=", ">", ">=", ":")


class BadFilter(InvalidArgument):
    """At character {position} of the filter: {problem}"""

    def __init__(self, position: int, problem: str) -> None:
        super().__init__(position=position, problem=problem, field="filter")


@dataclass(frozen=True)
class Field:
    """A field that callers may order or filter by."""

    column: Any  # An SQLAlchemy column or labelled expression; a name of ours, never of a caller.
    nullable: bool = False
    order: bool = True
    filter: bool = True
    values: Mapping[str, Any] = field(default_factory=dict)  # Of an enum: stored value by name.


@dataclass
class _Token:
    kind: str
    text: str
    start: int


class _Reader:
    """Tokens of a filter, one at a time."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def peek(self, pattern: re.Pattern[str] = TOKEN) -> _Token | None:
        """None at the end."""
        found = pattern.match(self.text, self.at)
        if found is None or found.lastgroup is None:
            if self.text[self.at :].strip():
                start = self.at + len(self.text[self.at :]) - len(self.text[self.at :].lstrip())
                raise BadFilter(start, f"`{self.text[start]}` cannot stand here")
            return None
        return _Token(found.lastgroup, found[found.lastgroup], found.start(found.lastgroup))

    def take(self, pattern: re.Pattern[str] = TOKEN) -> _Token:
        token = self.peek(pattern)
        if token is None:
            raise BadFilter(len(self.text), "it ends too early")
        self.at = token.start + len(token.text)
        return token

    def take_if(self, *texts: str) -> bool:
        token = self.peek()
        if token and token.kind != "string" and token.text in texts:
            self.take()
            return True
        return False


def condition(text: str, fields: Mapping[str, Field]) -> ColumnElement[bool]:
    """The condition that `text` says; true when it is empty. Raises BadFilter."""
    if len(text) > FILTER_CHARS_MAX:
        raise BadFilter(FILTER_CHARS_MAX, f"it is longer than {FILTER_CHARS_MAX} characters")
    if "\0" in text:
        raise BadFilter(text.index("\0"), "it holds a NUL")
    if not text.strip():
        return true()
    parser = _Parser(_Reader(text), fields)
    made = parser.expression(depth=0)
    if rest := parser.reader.peek():
        raise BadFilter(rest.start, f"AND or OR is missing before `{rest.text}`")
    return made


class _Parser:
    """AIP-160's grammar, by recursive descent."""

    def __init__(self, reader: _Reader, fields: Mapping[str, Field]) -> None:
        self.reader, self._fields, self._comparisons = reader, fields, 0

    def expression(self, depth: int) -> ColumnElement[bool]:
        factors = [self._factor(depth)]
        while self.reader.take_if("AND"):
            factors.append(self._factor(depth))
        return and_(*factors)

    def _factor(self, depth: int) -> ColumnElement[bool]:
        terms = [self._term(depth)]
        while self.reader.take_if("OR"):
            terms.append(self._term(depth))
        return or_(*terms)

    def _term(self, depth: int) -> ColumnElement[bool]:
        if depth > DEPTH_MAX:
            raise BadFilter(self.reader.at, f"it is nested deeper than {DEPTH_MAX}")
        if self.reader.take_if("NOT", "-"):
            return not_(self._term(depth + 1))
        token = self.reader.peek()
        if token and token.kind == "word" and token.text.startswith("-"):
            self.reader.at = token.start + 1
            return not_(self._term(depth + 1))
        if self.reader.take_if("("):
            inside = self.expression(depth + 1)
            if not self.reader.take_if(")"):
                raise BadFilter(self.reader.at, "a `)` is missing")
            return inside
        return self._comparison()

    def _comparison(self) -> ColumnElement[bool]:
        self._comparisons += 1
        name = self.reader.take()
        if self._comparisons > COMPARISONS_MAX:
            raise BadFilter(name.start, f"it compares more than {COMPARISONS_MAX} times")
        known = self._fields.get(name.text) if name.kind == "word" else None
        if known is None or not known.filter:
            fields = ", ".join(sorted(name for name, field in self._fields.items() if field.filter))
            raise BadFilter(name.start, f"`{name.text}` is no field to filter by; these are: {fields}")
        sign = self.reader.take()
        if sign.text not in SIGNS or sign.kind != "sign":
            raise BadFilter(sign.start, f"a comparison is missing after `{name.text}`")
        argument = self.reader.take(ARGUMENT)
        made = _compare(known, sign, argument)
        return and_(known.column.is_not(None), made) if known.nullable and not _about_null(argument) else made


def _about_null(argument: _Token) -> bool:
    return argument.kind == "word" and argument.text in ("null", "*")


def _compare(known: Field, sign: _Token, argument: _Token) -> ColumnElement[bool]:
    column = known.column
    if argument.kind == "word" and argument.text == "null":
        if sign.text not in ("=", "!="):
            raise BadFilter(sign.start, "null is only equal or unequal")
        return column.is_(None) if sign.text == "=" else column.is_not(None)  # type: ignore[no-any-return]
    if sign.text == ":":
        return _has(known, sign, argument)
    if isinstance(column.type, ARRAY):
        raise BadFilter(sign.start, "a list is only compared with `:`")
    value = literal(_value(known, column.type, argument), column.type)
    by_sign: dict[str, Callable[[], Any]] = {
        "=": lambda: column == value,
        "!=": lambda: column != value,
        "<": lambda: column < value,
        "<=": lambda: column <= value,
        ">": lambda: column > value,
        ">=": lambda: column >= value,
    }
    return by_sign[sign.text]()  # type: ignore[no-any-return]


def _has(known: Field, sign: _Token, argument: _Token) -> ColumnElement[bool]:
    column = known.column
    if argument.kind == "word" and argument.text == "*":
        return column.is_not(None)  # type: ignore[no-any-return]
    if isinstance(column.type, ARRAY):
        element = column.type.item_type
        return literal(_value(known, element, argument), element) == any_(column)
    if known.values or column.type.python_type is not str:
        raise BadFilter(sign.start, "`:` is for texts and lists")
    text = _text(argument)
    if text.endswith("*"):
        return column.startswith(text[:-1], autoescape=True)  # type: ignore[no-any-return]
    return column.icontains(text, autoescape=True) if text else false()


def _text(argument: _Token) -> str:
    if argument.kind == "word":
        return argument.text
    return re.sub(r"\\(.)", r"\1", argument.text[1:-1], flags=re.DOTALL)


def _value(known: Field, kind: Any, argument: _Token) -> Any:
    """The argument as the column's type has it. Raises BadFilter."""
    text, python = _text(argument), kind.python_type
    if known.values:
        if text not in known.values:
            raise BadFilter(argument.start, f"`{text}` is none of {', '.join(known.values)}")
        return known.values[text]
    try:
        return _parsed(python, kind, text)
    except (ValueError, KeyError, ArithmeticError):
        _refuse(argument, text, python)


def _refuse(argument: _Token, text: str, python: type) -> NoReturn:
    called = {bool: "true or false", int: "an integer", datetime: "an RFC 3339 time", UUID: "a UUID"}
    raise BadFilter(argument.start, f"`{text}` is not {called.get(python, 'a ' + python.__name__)}")


def _parsed(python: type, kind: Any, text: str) -> Any:
    """Raises ValueError, KeyError or ArithmeticError."""
    if python is bool:
        return {"true": True, "false": False}[text]
    if python is datetime:
        at = datetime.fromisoformat(text)
        if at.tzinfo is None:
            raise ValueError(text)
        return at
    if python is int:
        bits = 63 if isinstance(kind, BigInteger) else 31
        if not -(1 << bits) <= (number := int(text)) < 1 << bits:
            raise ValueError(text)
        return number
    if python is date:
        return date.fromisoformat(text)
    if (made := python(text)) != made:  # Not a number equals nothing, itself included.
        raise ValueError(text)
    return made
