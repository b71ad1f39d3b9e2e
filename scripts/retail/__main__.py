"""`scripts/weft demo retail [FILE...]`: a wholesaler's months, taken over as a business.

Assortment, stock, orders, what was given back, debts; then the ledger, the list of orders and the stock are
compared with the files, to the penny. Without files: those of the outside data beside the repository. Can be
done again, and goes on where it broke off.
"""

from __future__ import annotations

import asyncio
import csv
import os
import signal
import sys
import time
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, fields
from decimal import Decimal
from hashlib import sha256
from pathlib import Path

import grpc.aio
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table

from scripts.jobs.calling import NotSignedIn, edge
from scripts.jobs.showing import console
from scripts.retail import books
from scripts.retail.books import Survey, pence
from scripts.retail.checking import Booked, Checking, published
from scripts.retail.packing import CURRENCY
from scripts.retail.paying import Paying
from scripts.retail.rows import NoSales, Refused, Row
from scripts.retail.sending import Sender
from scripts.retail.taking import Taking

ROOT = Path(__file__).parents[2]
OUTSIDE = "01_retail_uci"
KILL_AT = 0.4  # Of all days.
REASONS_MAX = 20  # Of refused lines, on the screen; the file has all.


def parser() -> ArgumentParser:
    words = ArgumentParser(prog="weft demo retail", description="Takes a wholesaler's months over.")
    words.add_argument("files", nargs="*", type=Path, metavar="FILE", help="CSV, also as .gz")
    words.add_argument("--days", type=int, metavar="N", help="only the first N days")
    words.add_argument("--payments", action="store_true", help="pay for it by bank, a statement a day")
    words.add_argument("--kill", action="store_true", help="kill -9 the order service in the middle")
    words.add_argument("--refused", type=Path, metavar="FILE", help="where refused lines are listed")
    return words


def outside() -> list[Path]:
    """The files of the outside data. Raises NoSales."""
    folder = Path(os.environ.get("WEFT_SHARED_DATA") or ROOT.parent / "shared" / "data") / OUTSIDE
    if found := sorted(folder.glob("*.csv.gz")):
        return found
    raise NoSales("name a CSV file with the columns of UCI's Online Retail")


def surveyed(files: Sequence[Path], days: int | None) -> Survey:
    survey = Survey()
    for day in books.days(files, days):
        survey.add(day)
    return survey


def scope_of(files: Sequence[Path], days: int | None) -> str:
    """Names what is imported, by its content: another file is another assortment, and another warehouse."""
    digest = sha256(str(days).encode())
    for path in files:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:8]


async def take(
    taking: Taking, paying: Paying | None, files: Sequence[Path], words: Namespace, survey: Survey
) -> None:
    """Everything, in its order, telling each step."""
    products = await taking.assortment()
    console.print(
        f"catalog    {products:,} products, each under the title and at the price it had most often"
    )
    console.print(f"inventory  {await taking.opening():,} units lie there before the first day")
    debts, killing = list[Row](), _killing(words)
    with _bars() as bars:
        task = bars.add_task("order", total=survey.rows)
        for day in books.days(files, words.days):
            killing(bars, task)
            await taking.day(day)
            if paying:
                await paying.day(day, taking.taken.missing)
            debts += day.debts
            bars.advance(task, day.rows)
    console.print(f"inventory  {await taking.moves():,} units left or came back")
    if booked := await taking.debts(debts):
        console.print(f"ledger     {booked} adjusted debts")


def _killing(words: Namespace) -> Callable[[Progress, int], None]:
    """Kills the process of the order service once, when KILL_AT of all is done."""
    left = [int(os.environ["WEFT_ORDER_PID"])] if words.kill else []

    def kill(bars: Progress, task: int) -> None:
        if left and bars.tasks[0].percentage >= KILL_AT * 100:
            pid = left.pop()
            os.kill(pid, signal.SIGKILL)
            bars.console.print(f"[red]kill -9[/] process {pid}, which runs the order service")

    return kill


async def check(
    checking: Checking, taking: Taking, expected: Mapping[str, int], paid: Counter[str] | None
) -> int:
    """How much is wrong; shows a table of the months."""
    survey, sums = taking.survey, (sum(expected.values()), None if paid is None else paid.total())
    with _bars() as bars:
        task = bars.add_task("ledger", total=survey.sales.total())
        booked = await checking.settled(*sums, lambda done: bars.update(task, completed=done))
    orders = await checking.orders()
    wrong = _show(booked, orders, expected, taking)
    if paid is not None:
        wrong += _came(booked, paid)
    if not await checking.balanced():
        wrong += 1
        console.print("[red]the ledger's debits and credits are not equal[/]")
    if (await checking.stock(taking.location_id)) != survey.closing(taking.opened):
        wrong += 1
        console.print("[red]the stock is not what the movements come to[/]")
    return wrong


def _came(booked: Mapping[str, Booked], paid: Counter[str]) -> int:
    """1 if what came by bank is not what was paid."""
    right = all(found.paid == paid[month] for month, found in booked.items())
    mark = "[green]exact[/]" if right else f"[red]expected {pounds(paid.total())}[/]"
    came = sum(found.paid for found in booked.values())
    console.print(f"payment    {pounds(came)} {CURRENCY} came by bank: {mark}")
    return int(not right)


def _show(
    booked: Mapping[str, Booked],
    orders: Mapping[str, Counter[str]],
    expected: Mapping[str, int],
    taking: Taking,
) -> int:
    table = Table("month", *("orders", "refunds", "sales", "returned", "bad debts", "net", ""), box=None)
    for column in table.columns[1:-1]:
        column.justify = "right"
    wrong = 0
    for month, found in booked.items():
        count = taking.survey.orders[month]
        listed = (orders[month]["orders"], orders[month]["gross"]) if month in orders else (0, 0)
        right = found.net == expected[month] and listed == (count, found.sales)
        wrong += not right
        table.add_row(
            month,
            f"{count:,}",
            f"{taking.taken.refunds[month]:,}",
            *map(pounds, (found.sales, found.returns, found.debts, found.net)),
            "[green]exact[/]" if right else f"[red]expected {pounds(expected[month])}; listed {listed}[/]",
        )
    console.print(table)
    return wrong


def report(refused: Sequence[Refused], target: Path) -> None:
    """Lists them in a file, and counts them by reason."""
    with target.open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file)
        out.writerow(each.name for each in fields(Refused))
        out.writerows(map(astuple, refused))
    if not refused:
        console.print("refused    no line")
        return
    console.print(f"refused    {len(refused):,} lines, listed in {target}:")
    for reason, count in Counter(each.reason for each in refused).most_common(REASONS_MAX):
        console.print(f"           {count:>7,} {reason}")


def pounds(minor: int) -> str:
    return f"{Decimal(minor).scaleb(-2):,.2f}"


def _bars() -> Progress:
    return Progress(
        TextColumn("{task.description:<10}"), BarColumn(), TaskProgressColumn(), MofNCompleteColumn(),
        console=console,
    )  # fmt: skip


async def main(words: Namespace) -> int:
    files, begun = words.files or outside(), time.monotonic()
    with console.status("reading"):
        survey = surveyed(files, words.days)
    if not survey.net:
        raise NoSales("there is no line that could be taken")
    known = published(files, survey) if words.days is None else dict(survey.net)
    read = dict(survey.net)
    scope = scope_of(files, words.days)
    console.print(f"files      {len(files)}, {survey.rows:,} lines, {survey.invoices:,} invoices")
    async with edge() as client:
        sender = Sender(client)
        taking, paying = Taking(sender, survey, scope), Paying(sender) if words.payments else None
        await take(taking, paying, files, words, survey)
        seconds, taken = time.monotonic() - begun, taking.taken
        console.print(
            f"order      {taken.imported:,} orders and refunds are new, {taken.unchanged:,} were there; "
            f"{survey.rows / seconds:,.0f} lines a second"
            + (f"; {sender.again} calls were made again" if sender.again else "")
        )
        expected = {month: pence(net - read[month] + survey.net[month]) for month, net in known.items()}
        paid = paying.paid if paying else None
        wrong = await check(Checking(sender, survey), taking, expected, paid)
    report(taken.refused, words.refused or Path(os.environ["WEFT_REFUSED_FILE"]))
    console.print("[red]something is wrong[/]" if wrong else "[green]all books are exact[/]")
    return 1 if wrong else 0


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main(parser().parse_args())))
    except grpc.aio.AioRpcError as error:
        console.print(f"[red]stopped:[/] {error.code().name}: {error.details()}")
        sys.exit(1)
    except (NoSales, NotSignedIn) as error:
        console.print(f"[red]stopped:[/] {error}")
        sys.exit(1)
