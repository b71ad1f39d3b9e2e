"""A batch import as jobs: a worker is killed in the middle, and the totals are exact."""

import csv
from decimal import Decimal
from pathlib import Path

import pytest

from tests.data import shared
from tests.meshes import Mesh

ROWS = 16_000
MONTHS = ("2031-01", "2031-02")
BOUGHT = ["InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate"]
HEAD = [*BOUGHT, "UnitPrice", "CustomerID", "Country"]
COUNTS = ["rows", "invoices", "cancel_invoices", "lines_no_customer", "customers", "skus"]
EXPECTED = ["month", *COUNTS, "net_gbp"]


@pytest.fixture
def sales(tmp_path: Path) -> list[Path]:
    """Two months of sales, and beside them what they come to, by arithmetic and not by counting."""
    files = [tmp_path / f"{month}.csv" for month in MONTHS]
    for path in files:
        with path.open("w", newline="") as file:
            out = csv.writer(file)
            out.writerow(HEAD)
            for n in range(
                ROWS
            ):  # Ten an invoice; each fourth is cancelled, each eighth line has no customer.
                cancelled = n // 10 % 4 == 3
                number, quantity = f"{'C' if cancelled else ''}{n // 10}", -3 if cancelled else 2
                customer = "" if n % 8 == 7 else f"{n % 8}.0"
                out.writerow([number, f"S{n % 100}", "Wool, red", quantity, "", "0.105", customer, "Norway"])
    net = (Decimal(2) * 3 - Decimal(3)) / 4 * Decimal("0.105") * ROWS
    with (tmp_path / "expected_totals_by_month.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(EXPECTED)
        for month in MONTHS:
            out.writerow([month, ROWS, ROWS // 10, ROWS // 40, ROWS // 8, 7, 100, net])
    return files


@pytest.mark.timeout(120)
def test_an_import_survives_the_death_of_a_worker_to_the_penny(mesh: Mesh, sales: list[Path]) -> None:
    done = mesh.weft("demo", "import", *map(str, sales))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "kill -9 worker process" in done.stdout
    assert "where its worker had died" in done.stdout
    assert "all totals are exact" in done.stdout


@pytest.mark.timeout(120)
def test_an_import_that_counts_otherwise_is_told(mesh: Mesh, sales: list[Path]) -> None:
    table = sales[0].with_name("expected_totals_by_month.csv")
    table.write_text(table.read_text().replace(f"{MONTHS[1]},{ROWS}", f"{MONTHS[1]},{ROWS + 1}"))
    done = mesh.weft("demo", "import", "--no-kill", str(sales[1]))
    assert done.returncode == 1
    assert "1 files are wrong" in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_real_wholesalers_year_comes_to_the_published_totals(mesh: Mesh) -> None:
    files = sorted(shared("01_retail_uci").glob("*.csv.gz"))
    done = mesh.weft("demo", "import", *map(str, files))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(" exact") == len(files) + 1


@pytest.mark.timeout(120)
def test_a_file_that_is_no_sales_is_refused_by_name(mesh: Mesh, tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    done = mesh.weft("demo", "import", str(tmp_path / "other.csv"))
    assert done.returncode == 1
    assert "InvoiceNo, StockCode, Quantity, UnitPrice, CustomerID" in " ".join(done.stdout.split())
