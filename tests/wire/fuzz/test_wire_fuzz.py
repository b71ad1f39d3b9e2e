"""Any bytes: what was kept holds, and a while of looking for more, guided by coverage, finds nothing.

`python -m tests.wire.fuzz TARGET [libFuzzer's arguments]` looks for longer.
"""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

import pytest

from tests.wire.fuzz import corpus
from tests.wire.fuzz.targets import ANY, TARGETS

SHORT_S, LONG_S = 3, 180  # Of all targets together, and of each.
INPUT_BYTES_MAX = 900  # Enough for a dozen frames and what they carry.

each_target = pytest.mark.parametrize("target", TARGETS)


@each_target
def test_what_was_found_worth_keeping_holds(target: str) -> None:
    inputs = corpus.kept(target)
    assert inputs
    for data in inputs:
        try:
            TARGETS[target](data)
        except BaseException as error:
            error.add_note(f"{target}: {data.hex()}")
            raise


def look(target: str, inputs: list[bytes], seconds: int, folder: Path) -> str:
    """libFuzzer's report; a failure tells the input."""
    corpus.unpack(inputs, folder / "corpus")
    bounds = [
        f"-max_total_time={seconds}",
        f"-max_len={INPUT_BYTES_MAX}",
        "-timeout=20",
        "-rss_limit_mb=1500",
    ]
    done = corpus.fuzz(
        target, folder / "corpus", *bounds, f"-artifact_prefix={folder}/", "-print_final_stats=1"
    )
    found = [b64encode(path.read_bytes()).decode() for path in folder.iterdir() if path.is_file()]
    assert done.returncode == 0, f"{target} fails on {found}:\n{done.stderr[-4000:]}"
    return done.stderr


def runs(report: str) -> int:
    return int(report.split("stat::number_of_executed_units:")[1].split()[0])


@pytest.mark.timeout(30 * SHORT_S)  # Instrumenting takes its time, the more so among other tests.
def test_a_look_for_more_finds_nothing(tmp_path: Path) -> None:
    inputs = [bytes([number]) + data for number, name in enumerate(TARGETS) for data in corpus.kept(name)]
    assert runs(look(ANY, inputs, SHORT_S, tmp_path)) > len(inputs)


@pytest.mark.slow
@pytest.mark.timeout(2 * LONG_S)
@each_target
def test_a_long_look_for_more_finds_nothing(target: str, tmp_path: Path) -> None:
    assert runs(look(target, corpus.kept(target), LONG_S, tmp_path)) > 10_000
