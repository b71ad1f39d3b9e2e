"""Reads the part of Numscript that says who gives and who gets: `send`, sources, destinations, variables."""

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from services.ledger.domain.distribution import (
    Account,
    InOrder,
    Plan,
    Shares,
    Source,
    Target,
    To,
)

TOKEN = re.compile(
    r"(?P<skip>\s+|//[^\n]*|/\*.*?\*/)|(?P<account>@[A-Za-z0-9_:-]+)|(?P<variable>\$[a-z_]+)"
    r"|(?P<portion>\d+(?:\.\d+)?%|\d+\s?/\s?\d+)|(?P<number>-?\d[\d_]*)"
    r"|(?P<asset>[A-Z][A-Z0-9]*(?:/\d+)?)|(?P<word>[a-z_]+)|(?P<sign>[][(){}*=,+/-])",
    re.S,
)
WORLD = "world"


class Unsupported(Exception):
    """The script uses what has no counterpart: metadata, colours, scaling, functions, `save`, `oneof`."""


class Script:
    """A script, run against balances of (account, asset)."""

    def __init__(self, text: str, variables: Mapping[str, str], balances: Mapping[tuple[str, str], int]):
        self._tokens = tokens(text)
        self._given, self._variables = variables, dict[str, Any]()
        self._balances = balances
        self._plans: dict[str, Plan] = {}
        self.postings: list[tuple[str, str, int, str]] = []

    def run(self) -> None:
        if self._is("vars"):
            self._read_variables()
        while self._tokens:
            self._send()

    def _read_variables(self) -> None:
        self._next("{")
        while not self._is("}"):
            kind, name = self._next(), self._next()[1:]
            if self._is("="):
                self._variables[name] = self._balance()
            else:
                self._variables[name] = self._value(kind, self._given[name])

    def _balance(self) -> tuple[str, int]:
        if self._next() != "balance":
            raise Unsupported
        self._next("(")
        account = self._account()
        self._next(",")
        asset = self._asset()
        self._next(")")
        return asset, self._balances.get((account, asset), 0)

    def _value(self, kind: str, text: str) -> Any:
        if kind == "number":
            return int(text)
        if kind == "monetary":
            asset, _, amount = text.rpartition(" ")
            return asset, int(amount)
        return portion(text) if kind == "portion" else text

    def _send(self) -> None:
        if self._next() != "send":
            raise Unsupported
        asset, amount = self._monetary()
        if amount is not None and amount < 0:
            raise Unsupported
        for word in ("(", "source", "="):
            self._next(word)
        source = self._source()
        for word in ("destination", "="):
            self._next(word)
        target = self._target()
        self._next(")")
        plan = self._plan(asset)
        plan.send(amount, source, target)
        self.postings += [(*posting, asset) for posting in plan.postings]
        plan.postings.clear()
        assert not plan.taken

    def _plan(self, asset: str) -> Plan:
        if asset not in self._plans:
            own = {account: minor for (account, of), minor in self._balances.items() if of == asset}
            self._plans[asset] = Plan(own)
        return self._plans[asset]

    def _monetary(self) -> tuple[str, int | None]:
        """None: all there is."""
        asset, amount = self._term()
        while self._peek() in ("+", "-"):
            sign = 1 if self._next() == "+" else -1
            other, more = self._term()
            assert asset == other
            assert amount is not None
            assert more is not None
            amount += sign * more
        return asset, amount

    def _term(self) -> tuple[str, int | None]:
        if self._peek().startswith("$"):
            value: tuple[str, int | None] = self._variables[self._next()[1:]]
            return value
        if not self._is("["):
            raise Unsupported
        asset = self._asset()
        if self._is("*"):
            self._next("]")
            return asset, None
        amount = self._number()
        while not self._is("]"):
            sign = {"+": 1, "-": -1}.get(self._peek(), 0)
            if sign:
                self._next()
            amount += (sign or 1) * self._number()
        return asset, amount

    def _number(self) -> int:
        token = self._next()
        return int(self._variables[token[1:]]) if token.startswith("$") else int(token)

    def _asset(self) -> str:
        token = self._next()
        return str(self._variables[token[1:]]) if token.startswith("$") else token

    def _account(self) -> str:
        token = self._next()
        if token[0] not in "@$":
            raise Unsupported
        return str(self._variables[token[1:]]) if token.startswith("$") else token[1:]

    def _source(self) -> Source:
        if self._is("max"):
            most = self._monetary()[1]
            self._next("from")
            within = self._source()
            return InOrder([within], max(0, most or 0))
        if self._is("{"):
            return self._block("from", self._source)
        name = self._account()
        if not self._is("allowing"):
            return Account(name, None if name == WORLD else 0)
        if self._is("unbounded"):
            self._next("overdraft")
            return Account(name, None)
        for word in ("overdraft", "up", "to"):
            self._next(word)
        return Account(name, max(0, self._monetary()[1] or 0))

    def _target(self) -> Target:
        if self._is("kept"):
            return To("")
        if self._is("{"):
            return self._block("to", self._target)
        return To(self._account())

    def _block(self, word: str, read: Any) -> InOrder | Shares:
        """Shares where one begins so; else one after the other."""
        shares: list[tuple[Fraction | None, Any]] = []
        items: list[Any] = []
        while not self._is("}"):
            if word == "to" and self._is("max"):
                items.append(InOrder([self._bounded(word, read)]))
            elif self._is("remaining"):
                shares.append((None, self._after(word, read)))
            elif (part := self._portion()) is not None:
                shares.append((part, self._after(word, read)))
            else:
                items.append(read())
        if not items:
            return Shares(shares)
        return InOrder([*(self._flat(item) for item in items), *(item for _, item in shares)])

    @staticmethod
    def _flat(item: Any) -> Any:
        if isinstance(item, InOrder) and item.most is None and len(item.items) == 1:
            return item.items[0]
        return item

    def _bounded(self, word: str, read: Any) -> Any:
        most = max(0, self._monetary()[1] or 0)
        within = self._after(word, read)
        return InOrder([InOrder([within])], most) if not isinstance(within, To) else To(within.name, most)

    def _after(self, word: str, read: Any) -> Any:
        """`to X`, or `kept`."""
        if not (word == "to" and self._peek() == "kept"):
            self._next(word)
        return read()

    def _portion(self) -> Fraction | None:
        token = self._peek()
        if "%" in token or re.fullmatch(r"\d+\s?/\s?\d+", token):
            return portion(self._next())
        second = self._tokens[1] if len(self._tokens) > 2 else ""
        if second == "/":
            above = self._number()
            self._next("/")
            return Fraction(above, self._number())
        if token.startswith("$") and isinstance(self._variables[token[1:]], Fraction):
            part: Fraction = self._variables[self._next()[1:]]
            return part
        return None

    def _peek(self) -> str:
        return self._tokens[0] if self._tokens else ""

    def _is(self, word: str) -> bool:
        if self._peek() == word:
            self._tokens.pop(0)
            return True
        return False

    def _next(self, word: str = "") -> str:
        token = self._tokens.pop(0)
        if word and token != word:
            raise Unsupported
        return token


def portion(text: str) -> Fraction:
    return Fraction(text[:-1]) / 100 if text.endswith("%") else Fraction(re.sub(r"\s", "", text))


def tokens(text: str) -> list[str]:
    """Raises Unsupported."""
    made, at = [], 0
    while at < len(text):
        found = TOKEN.match(text, at)
        if found is None:
            raise Unsupported
        if found.lastgroup != "skip":
            made.append(found[0].replace("_", "") if found.lastgroup == "number" else found[0])
        at = found.end()
    return made
