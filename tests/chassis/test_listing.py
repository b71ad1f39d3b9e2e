"""Pages joined are the whole list; tokens and filters open nothing else."""

import base64
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import HealthCheck, example, given, settings, strategies as st
from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Integer,
    MetaData,
    Table,
    Text,
    Uuid,
    select,
)

from services.chassis.db import Database
from services.chassis.filtering import (
    COMPARISONS_MAX,
    DEPTH_MAX,
    FILTER_CHARS_MAX,
    BadFilter,
    Field,
    condition,
)
from services.chassis.listing import BadOrder, BadPageSize, BadPageToken, Listing
from tests import databases

KEY = "a key of at least thirty-two bytes, for tests"
THING = Table(
    "thing",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("name", Text),
    Column("units", BigInteger),
    Column("made", DateTime(timezone=True)),
    Column("sold", Boolean),
    Column("labels", ARRAY(Text)),
    Column("owner", Uuid),
    Column("state", Integer),
)
C = THING.c
FIELDS = {
    "id": Field(C.id),
    "name": Field(C.name, nullable=True),
    "units": Field(C.units, nullable=True),
    "made": Field(C.made, nullable=True),
    "sold": Field(C.sold, nullable=True),
    "labels": Field(C.labels, order=False),
    "owner": Field(C.owner, nullable=True),
    "state": Field(C.state, values={"ACTIVE": 1, "CLOSED": 2}),
    "hidden": Field(C.id, filter=False, order=False),
}
THINGS = Listing(FIELDS, order="made desc", unique="id", page_size=7, page_size_max=50)
NAMES = ["", "a", "A", "ab%", "a_b", "b\\", "Ünï", "'; drop table thing; --", '"', "zz", None]
ROWS = [
    {
        "id": n,
        "name": NAMES[n % len(NAMES)],
        "units": None if n % 5 == 0 else (n * 7919) % 11 - 5,
        "made": None
        if n % 7 == 0
        else datetime(2026, 1, 1 + n % 3, tzinfo=UTC) + timedelta(microseconds=n % 2),
        "sold": [None, True, False][n % 3],
        "labels": [label for label in ("red", "blue", "a b") if (n + len(label)) % 2],
        "owner": None if n % 4 else UUID(int=n % 8),
        "state": 1 + n % 2,
    }
    for n in range(1, 61)
]


def _requests() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="weft/demo/v1/lists.proto", package="weft.demo.v1")
    file.syntax = "proto3"
    kinds = descriptor_pb2.FieldDescriptorProto
    for name in ("ListThingsRequest", "ListOthersRequest"):
        message = file.message_type.add(name=name)
        for number, field in enumerate(("page_token", "order_by", "filter", "parent"), 1):
            message.field.add(name=field, number=number, type=kinds.TYPE_STRING, label=kinds.LABEL_OPTIONAL)
        message.field.add(name="page_size", number=5, type=kinds.TYPE_INT32, label=kinds.LABEL_OPTIONAL)
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    made = [pool.FindMessageTypeByName(f"weft.demo.v1.{message.name}") for message in file.message_type]
    return {descriptor.name: message_factory.GetMessageClass(descriptor) for descriptor in made}


_made = _requests()
Request, Other = _made["ListThingsRequest"], _made["ListOthersRequest"]


@pytest.fixture(scope="session")
async def things(postgres: str) -> AsyncIterator[Database]:
    """Sixty rows with nulls, ties and names that would like to be SQL."""
    async with databases.fresh(postgres) as url:
        db = Database(url)
        async with db.transaction() as tx:
            connection = await tx.connection()
            await connection.run_sync(THING.metadata.create_all)
            await tx.execute(THING.insert(), ROWS)
        yield db
        await db.close()


async def read(db: Database, request: Any) -> tuple[list[int], str]:
    """Ids of one page, and the next token."""
    page = THINGS.page(request, KEY)
    sql, arguments = page.sql(select(THING))
    rows, token = page.cut(await db.fetch(sql, *arguments))
    return [row["id"] for row in rows], token


async def read_all(db: Database, **fields: Any) -> list[int]:
    """Ids of all pages."""
    ids, token = await read(db, Request(**fields))
    while token:
        more, token = await read(db, Request(**fields, page_token=token))
        ids += more
    return ids


async def matching(db: Database, text: str) -> list[int]:
    page = THINGS.page(Request(filter=text, order_by="id", page_size=50), KEY)
    async with db.transaction() as tx:
        statement = select(THING).where(page.where).order_by(C.id)
        return [row.id for row in (await tx.execute(statement)).all()]


ORDERABLE = [name for name, field in FIELDS.items() if field.order]
orders = st.lists(st.sampled_from(ORDERABLE), unique=True, min_size=1, max_size=4).flatmap(
    lambda names: st.tuples(*(st.sampled_from([name, f"{name} asc", f"{name} desc"]) for name in names))
)


@settings(max_examples=40, deadline=None)
@given(names=orders, size=st.integers(4, 25))
async def test_pages_joined_are_the_whole_list_in_any_order(
    things: Database, names: tuple[str, ...], size: int
) -> None:
    order = ", ".join(names)
    whole = await read_all(things, order_by=order, page_size=50)
    assert sorted(whole) == [row["id"] for row in ROWS]
    assert await read_all(things, order_by=order, page_size=size) == whole, order
    first, *_ = order.split(",")
    name, descending = first.split()[0], first.endswith("desc")
    column = getattr(C, name)
    async with things.transaction() as tx:
        expected = (await tx.execute(select(column).order_by(column.desc() if descending else column))).all()
    by_id = {row["id"]: row[name] for row in ROWS}
    assert [by_id[n] for n in whole] == [row[0] for row in expected]


async def test_a_row_that_goes_or_comes_moves_no_other_row_between_pages(postgres: str) -> None:
    async with databases.fresh(postgres) as url:
        db = Database(url)
        async with db.transaction() as tx:
            await (await tx.connection()).run_sync(THING.metadata.create_all)
            await tx.execute(THING.insert(), ROWS)
        first, token = await read(db, Request(order_by="id", page_size=10))
        await db.execute("delete from thing where id in (3, 10)")
        second, _ = await read(db, Request(order_by="id", page_size=10, page_token=token))
        await db.close()
    assert (first, second) == (list(range(1, 11)), list(range(11, 21)))


async def test_a_token_opens_only_the_request_it_was_given_to(things: Database) -> None:
    _, token = await read(things, Request(filter="id > 3", order_by="name", parent="p", page_size=5))
    good = {"filter": "id > 3", "order_by": "name", "parent": "p", "page_token": token}
    assert (await read(things, Request(**good, page_size=9)))[0]
    for changed in ({"filter": "id > 4"}, {"order_by": "name desc"}, {"parent": "q"}, {"filter": ""}):
        with pytest.raises(BadPageToken):
            THINGS.page(Request(**{**good, **changed}), KEY)
    with pytest.raises(BadPageToken):
        THINGS.page(Other(**good), KEY)
    with pytest.raises(BadPageToken):
        THINGS.page(Request(**good), KEY + "another")


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_token_cannot_be_changed_or_invented(data: st.DataObject) -> None:
    token = THINGS.page(Request(page_size=1), KEY).cut(ROWS[:2])[1]
    at = data.draw(st.integers(0, len(token) - 5))  # The last four may hold bits that mean nothing.
    changed = token[:at] + data.draw(st.sampled_from("ABCxyz019-_")) + token[at + 1 :]
    for invented in (changed, data.draw(st.text(max_size=50)), token[:at]):
        if invented.rstrip("=") not in ("", token.rstrip("=")):
            with pytest.raises(BadPageToken):
                THINGS.page(Request(page_token=invented), KEY)


def test_a_token_does_not_show_the_row_that_it_marks() -> None:
    row = {**ROWS[0], "name": "somebody@example.org"}
    token = THINGS.page(Request(order_by="name", page_size=1), KEY).cut([row, row])[1]
    assert b"example" not in base64.urlsafe_b64decode(token)


@pytest.mark.parametrize(
    ("order", "position"),
    [
        ("nothing", 0),
        ("name, hidden", 6),
        ("name upwards", 0),
        ("id, id", 4),
        ("", -1),
        ("name,,id", 5),
        ("labels", 0),
    ],
)
def test_a_bad_order_is_refused_at_its_position(order: str, position: int) -> None:
    if position < 0:
        THINGS.page(Request(order_by=order), KEY)
        return
    with pytest.raises(BadOrder) as refused:
        THINGS.page(Request(order_by=order), KEY)
    assert refused.value.facts["position"] == str(position)
    assert refused.value.facts["field"] == "order_by"


def test_page_sizes_are_bounded() -> None:
    assert THINGS.page(Request(), KEY).size == 7
    assert THINGS.page(Request(page_size=1_000_000), KEY).size == 50
    with pytest.raises(BadPageSize):
        THINGS.page(Request(page_size=-1), KEY)


def lower(value: str | None) -> str:
    return (value or "").lower()


SAYS: dict[str, Callable[[Any], Any]] = {
    'name = "a"': lambda r: r["name"] == "a",
    'name != "a"': lambda r: r["name"] not in ("a", None),
    'NOT name = "a"': lambda r: r["name"] != "a",
    '-name = "a"': lambda r: r["name"] != "a",
    "name = null": lambda r: r["name"] is None,
    "name != null": lambda r: r["name"] is not None,
    "name:*": lambda r: r["name"] is not None,
    'name:"A"': lambda r: "a" in lower(r["name"]),
    'name:"%"': lambda r: "%" in lower(r["name"]),
    'name:"a_*"': lambda r: (r["name"] or "").startswith("a_"),
    "name:a*": lambda r: (r["name"] or "").startswith("a"),
    r'name = "\""': lambda r: r["name"] == '"',
    r'name = "b\\"': lambda r: r["name"] == "b\\",
    'name = "\'; drop table thing; --"': lambda r: (r["name"] or "").startswith("'; drop"),
    "units < 0": lambda r: r["units"] is not None and r["units"] < 0,
    "units >= -2 AND units <= 2": lambda r: r["units"] is not None and -2 <= r["units"] <= 2,
    "NOT units > 0": lambda r: r["units"] is None or r["units"] <= 0,
    "sold = true": lambda r: r["sold"] is True,
    "labels:red": lambda r: "red" in r["labels"],
    'NOT labels:"a b"': lambda r: "a b" not in r["labels"],
    "state = ACTIVE": lambda r: r["state"] == 1,
    "state != CLOSED": lambda r: r["state"] == 1,
    "made >= 2026-01-02T00:00:00Z": lambda r: r["made"] and r["made"] >= datetime(2026, 1, 2, tzinfo=UTC),
    'made = "2026-01-02T03:00:00+03:00"': lambda r: r["made"] == datetime(2026, 1, 2, tzinfo=UTC),
    f"owner = {UUID(int=4)}": lambda r: r["owner"] == UUID(int=4),
    "id = 1 OR id = 2 AND id = 2 OR id = 3": lambda r: r["id"] == 2,
    "id = 1 OR (id = 2 AND id = 2) OR id = 3": lambda r: r["id"] in (1, 2, 3),
    "NOT (id > 5 OR id < 3)": lambda r: 3 <= r["id"] <= 5,
    "NOT NOT id = 5": lambda r: r["id"] == 5,
    "  ": lambda r: True,
}


@pytest.mark.parametrize("text", SAYS)
async def test_a_filter_means_what_it_says(things: Database, text: str) -> None:
    expected = [row["id"] for row in ROWS if SAYS[text](row)]
    assert await matching(things, text) == expected
    if text.strip():
        rest = [row["id"] for row in ROWS if row["id"] not in expected]
        assert await matching(things, f"NOT ({text})") == rest


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("nothing = 1", 0),
        ("id = 1 AND hidden = 1", 11),
        ("id", 2),
        ("id =", 4),
        ("id = x", 5),
        ("id = 99999999999", 5),
        ("units = 99999999999999999999", 8),
        ("sold = maybe", 7),
        ("made > 2026-01-01T00:00:00", 7),
        ("owner = 12", 8),
        ("state = OPEN", 8),
        ("state:ACTIVE", 5),
        ("(id = 1", 7),
        ("id = 1)", 6),
        ("id = 1 id = 2", 7),
        ("id = 1 AND", 10),
        ("AND id = 1", 0),
        ("id = 1 and id = 2", 7),
        ("labels = red", 7),
        ("units > null", 6),
        ('name = "open', 7),
        ("id ! 1", 3),
        ('"id" = 1', 0),
        ("name = \0", 7),
        ("(" * (DEPTH_MAX + 2) + "id = 1" + ")" * (DEPTH_MAX + 2), DEPTH_MAX + 1),
        ("NOT " * (DEPTH_MAX + 2) + "id = 1", 4 * (DEPTH_MAX + 1) - 1),
        (" OR ".join(["id = 1"] * (COMPARISONS_MAX + 1)), 10 * COMPARISONS_MAX),
        ("x" * (FILTER_CHARS_MAX + 1), FILTER_CHARS_MAX),
    ],
)
def test_a_bad_filter_is_refused_at_its_position(text: str, position: int) -> None:
    with pytest.raises(BadFilter) as refused:
        condition(text, FIELDS)
    assert refused.value.facts["position"] == str(position), refused.value
    assert refused.value.facts["field"] == "filter"


words = st.sampled_from(
    [*FIELDS, "AND", "OR", "NOT", "-", "(", ")", "=", "!=", "<", ":", "null", "*", "1", '"x"', "'"]
)


@settings(max_examples=400)
@given(st.lists(words, max_size=15).map(" ".join) | st.text(max_size=60))
@example("-")
@example("name:")
@example("name = '\\")
def test_any_text_is_a_filter_or_refused(text: str) -> None:
    try:
        made = condition(text, FIELDS)
    except BadFilter as refused:
        assert 0 <= int(refused.facts["position"]) <= len(text)  # noqa: PT017 - it may as well be none
    else:
        assert str(made.compile())


HOSTILE = [
    "' or 1=1 --",
    '" or 1=1',
    "$1",
    "%s",
    "%(id)s",
    ":id",
    "\\",
    "*",
    "%",
    "_",
    "\r\n",
    "\u202e",
    "😀",
]


@pytest.mark.parametrize("value", HOSTILE)
async def test_what_a_caller_says_is_never_sql(things: Database, value: str) -> None:
    quoted = value.replace("\\", "\\\\").replace('"', '\\"')
    assert await matching(things, f'name = "{quoted}"') == []
    made = str(condition(f'name = "{quoted}"', FIELDS))
    assert value not in made.replace(":name_1", "").replace(":param_1", "") or value in ("*", "_")
    assert await things.fetchval("select count(*)::int from thing") == len(ROWS)
