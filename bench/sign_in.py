"""Sign-ins by password, against a bare loop of the Argon2 computation that each of them needs."""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median

import argon2

from bench import h2load, machine, mesh
from bench.h2load import Shot
from bench.machine import ALL, Cores, Meter
from bench.mesh import Mesh
from bench.people import Person, people
from bench.read import LAYOUTS
from bench.report import Report
from services.identity.settings import IdentitySettings

PEOPLE = 16  # One sign-in of each at once; none comes near the sessions an account may have open.
SETTINGS = IdentitySettings()


@dataclass(frozen=True)
class Bare:
    """The floor: verifications and nothing else."""

    rate: float  # A second.
    cpu_ms: float  # Each.


def run(seconds: float, repeats: int) -> Report:
    h2load.require()
    found = mesh.up()
    report = Report("Sign-in (`bench sign-in`)")
    passes, mib, threads = (
        SETTINGS.argon2_passes,
        SETTINGS.argon2_memory_kib // 1024,
        SETTINGS.argon2_concurrency,
    )
    report.say(
        f"Argon2id with {passes} passes over {mib} MiB, {threads} at once. The floor is that computation in "
        f"a bare loop of {threads} threads on the same cores."
    )
    rows, strangers = [], []
    for layout, (servers, load) in LAYOUTS.items():
        machine.pin(found.pids.values(), servers)
        bares, samples = [], []
        for _ in range(repeats):
            bares.append(bare(seconds / 2, servers))
            samples.append(_sample(found, people(found, PEOPLE), seconds, load))
        strangers += [sample[-1] for sample in samples]
        floor = Bare(median(one.rate for one in bares), median(one.cpu_ms for one in bares))
        rows.append([layout, *_row(samples, floor)])
    headings = ["cores", "sign-ins/s", "bare hashes/s", "ratio", "p50 ms", "p95 ms", "identity ms"]
    headings += ["bare hash ms", "share of Argon2", "Envoy ms", "PostgreSQL ms", "errors"]
    report.table(headings, rows)
    report.disturbance(strangers)
    return report


def bare(seconds: float, cores: Cores) -> Bare:
    """Verifies one password as often as it can, in as many threads as identity uses."""
    hasher = argon2.PasswordHasher(SETTINGS.argon2_passes, SETTINGS.argon2_memory_kib, parallelism=1)
    stored = hasher.hash("correct horse")
    machine.pin([os.getpid()], cores)
    began, used = time.perf_counter(), time.process_time()
    ends = began + seconds

    def verify() -> int:
        count = 0
        while time.perf_counter() < ends:
            hasher.verify(stored, "correct horse")
            count += 1
        return count

    with ThreadPoolExecutor(SETTINGS.argon2_concurrency) as threads:
        works = [threads.submit(verify) for _ in range(SETTINGS.argon2_concurrency)]
        count = sum(work.result() for work in works)
    wall, cpu = time.perf_counter() - began, time.process_time() - used
    machine.pin([os.getpid()], ALL)
    return Bare(count / wall, cpu / count * 1000)


def _sample(found: Mesh, persons: list[Person], seconds: float, load: Cores) -> tuple[float, ...]:
    shots = [sign_in(found, person) for person in persons]
    with Meter(found.pids) as meter:
        answers = h2load.together(h2load.fire(shots, seconds, load))
    count = max(1, answers.count)
    ms = [meter.seconds[hop] / count * 1000 for hop in ("identity", "edge", "postgres")]
    return (answers.rps, answers.ms(0.5), answers.ms(0.95), *ms, answers.bad, meter.strangers)


def sign_in(found: Mesh, person: Person, rate: float = 0.0) -> Shot:
    """A sign-in by REST."""
    body = json.dumps({"email": person.email, "password": person.password}).encode()
    headers = {"content-type": "application/json"}
    return Shot(f"{found.plain}/v1/sessions", headers, body, h1=True, rate=rate)


def _row(samples: list[tuple[float, ...]], floor: Bare) -> list[object]:
    rate, p50, p95, identity, edge, postgres = (
        median(column) for column in list(zip(*samples, strict=True))[:6]
    )
    share = f"{floor.cpu_ms / identity:.0%}" if identity else "-"
    bad = int(sum(sample[6] for sample in samples))
    ratio = rate / floor.rate
    return [rate, floor.rate, ratio, p50, p95, identity, floor.cpu_ms, share, edge, postgres, bad]
