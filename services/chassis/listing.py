"""Pages of List methods: order, filter, and tokens that mark a row and not a count.

    ORDERS = Listing({"at": Field(Order.at), "id": Field(Order.id)}, order="at desc", unique="id")

    page = ORDERS.page(request, key)
    rows = (await tx.scalars(page.select(select(Order)))).all()
    rows, token = page.cut(rows)

A token is encrypted and bound to the whole request but its page size: it opens no other filter, order,
parent or method, and shows nothing of the row it marks. Nulls count as the largest values, as PostgreSQL
has it, so plain indexes serve every order.
"""

import base64
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, TypeVar
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV
from google.protobuf.message import Message
from sqlalchemy import ColumnElement, Select, and_, false, literal, or_, tuple_
from sqlalchemy.dialects.postgresql.asyncpg import dialect

from services.chassis.errors import InvalidArgument
from services.chassis.filtering import Field, condition

R = TypeVar("R")

PAGE_SIZE, PAGE_SIZE_MAX = 50, 200  # Rows; a page is read whole into memory.
ORDER_FIELDS_MAX = 4
TOKEN_CHARS_MAX = 2_000
NONCE_BYTES = 12
PURPOSE = b"weft page token v1"


class BadOrder(InvalidArgument):
    """At character {position} of order_by: {problem}"""

    def __init__(self, position: int, problem: str) -> None:
        super().__init__(position=position, problem=problem, field="order_by")


class BadPageToken(InvalidArgument):
    """The page token is not one that this request was given."""

    def __init__(self) -> None:
        super().__init__(field="page_token")


class BadPageSize(InvalidArgument):
    """A page has 0 to 2147483647 rows asked for."""

    def __init__(self) -> None:
        super().__init__(field="page_size")


@dataclass(frozen=True)
class _Key:
    """One column of an order."""

    field: Field
    descending: bool

    def after(self, value: Any) -> ColumnElement[bool]:
        """Rows that come after `value` by this column alone."""
        column = self.field.column
        if value is None:
            return column.is_not(None) if self.descending else false()
        bound = literal(value, column.type)
        if self.descending:
            return column < bound  # type: ignore[no-any-return]
        return or_(column > bound, column.is_(None)) if self.field.nullable else column > bound

    def same(self, value: Any) -> ColumnElement[bool]:
        column = self.field.column
        return column.is_(None) if value is None else column == literal(value, column.type)  # type: ignore[no-any-return]


class Listing:
    """What one List method allows."""

    def __init__(
        self,
        fields: Mapping[str, Field],
        order: str,
        unique: str,
        page_size: int = PAGE_SIZE,
        page_size_max: int = PAGE_SIZE_MAX,
    ) -> None:
        """`order` is that of requests that name none; `unique` the field that breaks ties."""
        self._fields, self._order, self._unique = fields, order, unique
        self._page_size, self._page_size_max = page_size, page_size_max
        assert not fields[unique].nullable, "the field that breaks ties always has a value"

    def page(self, request: Any, key: str) -> "Page":
        """The page that `request` asks for. Raises BadFilter, BadOrder, BadPageToken, BadPageSize.

        `request` has page_size, page_token and, where the method offers them, order_by and filter. `key`
        is the process's secret (settings.mesh_key).
        """
        if request.page_size < 0:
            raise BadPageSize
        size = min(request.page_size or self._page_size, self._page_size_max)
        keys = self._keys(getattr(request, "order_by", "") or self._order)
        where = condition(getattr(request, "filter", ""), self._fields)
        seal = _Seal(key, request)
        last = seal.open(request.page_token, keys) if request.page_token else None
        return Page(keys, where if last is None else and_(where, _after(keys, last)), size, seal)

    def _keys(self, text: str) -> list[_Key]:
        keys: dict[str, _Key] = {}
        start = 0
        for part in text.split(","):
            words = part.split()
            at = start + len(part) - len(part.lstrip())
            start += len(part) + 1
            name, way = (words or [""])[0], words[1:]
            if name not in self._fields or not self._fields[name].order:
                known = ", ".join(sorted(name for name, field in self._fields.items() if field.order))
                raise BadOrder(at, f"`{name}` is no field to order by; these are: {known}")
            if name in keys or len(keys) == ORDER_FIELDS_MAX:
                raise BadOrder(at, f"a field comes once, and at most {ORDER_FIELDS_MAX} do")
            if way not in ([], ["asc"], ["desc"]):
                raise BadOrder(at, f"`{' '.join(way)}` is neither asc nor desc")
            keys[name] = _Key(self._fields[name], way == ["desc"])
        descending = next(iter(keys.values())).descending
        keys.setdefault(self._unique, _Key(self._fields[self._unique], descending))
        return list(keys.values())


def _after(keys: Sequence[_Key], last: Sequence[Any]) -> ColumnElement[bool]:
    """Rows after `last`. One row comparison where it says the same, since one index scan serves it."""
    if len({key.descending for key in keys}) == 1 and not any(key.field.nullable for key in keys):
        columns = tuple_(*(key.field.column for key in keys))
        values = tuple_(*(literal(v, key.field.column.type) for key, v in zip(keys, last, strict=True)))
        return columns < values if keys[0].descending else columns > values
    made: list[ColumnElement[bool]] = []
    same: list[ColumnElement[bool]] = []
    for key, value in zip(keys, last, strict=True):
        made.append(and_(*same, key.after(value)))
        same.append(key.same(value))
    return or_(*made)


class Page:
    """One page of a list, to be read."""

    def __init__(self, keys: Sequence[_Key], where: ColumnElement[bool], size: int, seal: "_Seal") -> None:
        self._keys, self.where, self.size, self._seal = keys, where, size, seal

    def select(self, statement: Select[Any]) -> Select[Any]:
        """`statement` for this page and one row more, which tells whether another page follows."""
        order = [key.field.column.desc() if key.descending else key.field.column.asc() for key in self._keys]
        return statement.where(self.where).order_by(*order).limit(self.size + 1)

    def sql(self, statement: Select[Any]) -> tuple[str, list[Any]]:
        """As `select`, as text and arguments for Database.fetch."""
        compiled = self.select(statement).compile(
            dialect=_DIALECT, compile_kwargs={"render_postcompile": True}
        )
        values = compiled.construct_params()
        return str(compiled), [values[name] for name in compiled.positiontup or ()]

    def cut(self, rows: Sequence[R]) -> tuple[Sequence[R], str]:
        """The rows of the page, and the token of the next; empty when this is the last."""
        if len(rows) <= self.size:
            return rows, ""
        page = rows[: self.size]
        return page, self._seal.close([_get(page[-1], key.field.column.key) for key in self._keys])


_DIALECT = dialect()  # type: ignore[no-untyped-call]


def _get(row: Any, name: str) -> Any:
    """From a mapped object, an SQLAlchemy row or an asyncpg record."""
    return getattr(row, name) if hasattr(row, name) else row[name]


class _Seal:
    """Makes and opens the tokens of one request."""

    def __init__(self, key: str, request: Message) -> None:
        self._cipher = AESGCMSIV(hashlib.sha256(PURPOSE + key.encode()).digest())
        bare = type(request)()
        bare.CopyFrom(request)
        bare.ClearField("page_token")
        bare.ClearField("page_size")
        name = request.DESCRIPTOR.full_name.encode()
        self._bound = name + b"\0" + bare.SerializeToString(deterministic=True)

    def close(self, values: Sequence[Any]) -> str:
        text = json.dumps([_plain(value) for value in values]).encode()
        nonce = os.urandom(NONCE_BYTES)
        return base64.urlsafe_b64encode(nonce + self._cipher.encrypt(nonce, text, self._bound)).decode()

    def open(self, token: str, keys: Sequence[_Key]) -> list[Any]:
        """Raises BadPageToken."""
        try:
            raw = base64.b64decode(token[:TOKEN_CHARS_MAX], b"-_", validate=True)
            values = json.loads(self._cipher.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], self._bound))
            types = [key.field.column.type.python_type for key in keys]
            return [_restored(value, kind) for value, kind in zip(values, types, strict=True)]
        except (ValueError, InvalidTag):
            raise BadPageToken from None


def _plain(value: Any) -> Any:
    if isinstance(value, date):
        return value.isoformat()
    return str(value) if isinstance(value, UUID | Decimal) else value


def _restored(value: Any, kind: Any) -> Any:
    if value is None or isinstance(value, kind):
        return value
    return kind.fromisoformat(value) if issubclass(kind, date) else kind(value)
