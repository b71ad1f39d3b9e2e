"""A wholesaler's months become a business: what is a mess is modelled or refused by name, the books exact."""

import csv
import json
import re
from collections import Counter
from pathlib import Path

import pytest

from scripts.retail.rows import COLUMNS
from tests.data import shared
from tests.meshes import Mesh

OUTSIDE = "01_retail_uci"
ANN, BOB, NOBODY = "17850.0", "12431.0", ""
# Invoice, code, units, price, customer, day and minute; then, by name, why it is refused.
LINES = {
    "sold": [
        ("T1", "85123A", "6", "2.55", ANN, "01 08:26"),
        ("T1", "85123a", "2", "2.55", ANN, "01 08:27"),
        ("T1", "PADS", "1", "0.001", ANN, "01 08:27"),
        ("T2", "22752", "4", "7.65", NOBODY, "01 09:00"),
        ("T2", "22753", "4", "0.0", NOBODY, "01 09:00"),
        ("T3", "POST", "1", "18.00", BOB, "01 10:00"),
        ("T4", "22752", "1", "0.0", BOB, "01 10:05"),
    ],
    "taken back": [
        ("CT1", "85123A", "-7", "2.55", ANN, "02 08:00"),
        ("CT1", "85123A", "-3", "2.55", ANN, "02 08:00"),
        ("CT2", "BANK CHARGES", "-1", "15.00", NOBODY, "02 08:30"),
    ],
    "stock": [
        ("T5", "22752", "-3", "0.0", NOBODY, "02 09:00"),
        ("T6", "22752", "12", "0.0", NOBODY, "02 09:01"),
    ],
    "debts": [
        ("AT7", "B", "1", "50.00", NOBODY, "02 10:00"),
        ("AT8", "B", "1", "-75.50", NOBODY, "02 10:00"),
    ],
    "BAD_QUANTITY": [
        ("T9", "22752", "two", "1.00", ANN, "02 11:00"),
        ("T9", "22752", "0", "1.00", ANN, "02 11:00"),
    ],
    "BAD_PRICE": [
        ("T9", "22752", "2", "1,50", ANN, "02 11:00"),
        ("T9", "22752", "2", "1.2345678", ANN, "02 11:00"),
    ],
    "BAD_SKU": [("T9", "?", "2", "1.50", ANN, "02 11:00")],
    "BAD_DATE": [("T9", "22752", "2", "1.50", ANN, "31 11:00")],
    "NO_INVOICE": [("", "22752", "2", "1.50", ANN, "02 11:00")],
    "NEGATIVE_PRICE": [("T9", "22752", "2", "-1.50", ANN, "02 11:00")],
    "CANCELS_NOTHING": [("CT9", "22752", "2", "1.50", ANN, "02 11:00")],
    "NOTHING_MOVED": [("T11", "POST", "1000", "0.0", NOBODY, "02 12:30")],
    "AMOUNT_OUT_OF_RANGE": [("T10", "22752", "1000000", "999999999", ANN, "02 12:00")],
    "UNKNOWN_ORDER": [("CT10", "22752", "-1000000", "999999999", ANN, "02 13:00")],
}
KINDS = {"sold", "taken back", "stock", "debts"}


def written(path: Path) -> None:
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(COLUMNS)
        for lines in LINES.values():
            for invoice, code, units, price, customer, at in lines:
                when = f"2009-02-{at}:00"
                out.writerow([invoice, code, "White  lantern", units, when, price, customer, "EIRE"])


@pytest.mark.timeout(180)
def test_every_mess_is_modelled_or_refused_by_name(mesh: Mesh, tmp_path: Path) -> None:
    written(tmp_path / "2009-02.csv")
    words = ("demo", "retail", str(tmp_path / "2009-02.csv"), "--payments")
    words += ("--refused", str(tmp_path / "refused.csv"))
    done = mesh.weft(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    # Sold 20.40 + 0.00 + 30.60 + 18.00; taken back 7 + 1 of 8 lanterns, 2 of nobody knows what, and charges.
    assert re.search(r"2009-02 +4 +3 +69\.00 +40\.50 +25\.50 +3\.00 +exact", done.stdout), done.stdout
    assert "38.40 GBP came by bank: exact" in done.stdout, "what nobody bought nobody pays"
    with (tmp_path / "refused.csv").open() as file:
        refused = [(row["line"], row["invoice"], row["reason"]) for row in csv.DictReader(file)]
    lines = [(name, line) for name, some in LINES.items() for line in some]
    expected = [(str(n), line[0], name) for n, (name, line) in enumerate(lines, 2) if name not in KINDS]
    assert sorted(refused) == sorted(expected)
    for name, count in Counter(name for _, _, name in expected).items():
        assert re.search(rf" {count} {name}\b", done.stdout), name
    again = mesh.weft(*words)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "0 orders and refunds are new, 7 were there" in again.stdout


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_day_of_a_real_wholesaler_comes_out_to_the_penny(mesh: Mesh) -> None:
    files = sorted(shared(OUTSIDE).glob("*.csv.gz"))
    done = mesh.weft("demo", "retail", "--days", "1", *map(str, files))
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"2010-12 +127 +6 +58,960\.79 +325\.23 +0\.00 +58,635\.56 +exact", done.stdout), (
        done.stdout
    )
    assert "refused    no line" in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_nine_months_of_a_real_wholesaler_survive_the_death_of_the_order_service(mesh: Mesh) -> None:
    shared(OUTSIDE)
    before = json.loads((mesh.home / "run" / "state.json").read_text())["components"]
    done = mesh.weft("demo", "retail", "--kill", wait_s=1700.0)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "kill -9 process" in done.stdout
    assert done.stdout.count(" exact") == 9 + 1
    assert re.search(r"refused +4 lines.*\n +4 NOTHING_MOVED", done.stdout), "postage that nobody pays"
    after = json.loads((mesh.home / "run" / "state.json").read_text())["components"]
    assert sum(part["restarts"] for part in after) == sum(part["restarts"] for part in before) + 1
