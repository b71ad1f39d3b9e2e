"""The environment follows the lock: made once, updated in place, made anew when its making was interrupted.

Here pip installs two tiny wheels from a folder; the path by uv is what set up the environment of this run.
"""

import hashlib
import os
import subprocess
import sys
import zipfile
from importlib.metadata import distributions
from pathlib import Path

import pytest

from launcher import indexes, paths
from launcher.environment import DEV, RUN, Environment
from launcher.problem import Problem
from tests.launcher.conftest import ROOT


def _wheel(folder: Path, version: str) -> str:
    """A wheel of one module, and the line that pins it."""
    path = folder / f"probe-{version}-py3-none-any.whl"
    about = f"Metadata-Version: 2.1\nName: probe\nVersion: {version}\n"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("probe.py", f"version = '{version}'\n")
        wheel.writestr(f"probe-{version}.dist-info/METADATA", about)
        wheel.writestr(f"probe-{version}.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"probe-{version}.dist-info/RECORD", "")
    return f"probe=={version} --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    """Locks that pin probe 1.0, an installer that cannot be had, and no index."""
    locks = tmp_path / "locks"
    locks.mkdir()
    line = _wheel(tmp_path, "1.0")
    (locks / "run.lock").write_text(line)
    (locks / "dev.lock").write_text(line)
    (locks / "installer.lock").write_text(f"nowhere==1.0 --hash=sha256:{'0' * 64}\n")
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    return Environment(tmp_path / "venv", locks)


def _installed(environment: Environment) -> str:
    program = "import probe; print(probe.version)"
    return subprocess.run(
        [environment.python, "-c", program], capture_output=True, text=True, check=True
    ).stdout


def test_where_uv_cannot_be_had_pip_installs(
    environment: Environment, capfd: pytest.CaptureFixture[str]
) -> None:
    environment.ensure(RUN)
    assert _installed(environment) == "1.0\n"
    assert "pip does it all" in capfd.readouterr().err
    environment.ensure(RUN)
    assert capfd.readouterr().err == ""


def test_a_changed_lock_updates_and_an_interrupted_making_begins_anew(
    environment: Environment, tmp_path: Path
) -> None:
    environment.ensure(DEV)
    left = environment.path / "left-from-before"
    left.touch()
    (environment.locks / "run.lock").write_text(_wheel(tmp_path, "2.0"))
    assert not environment.satisfies(RUN)
    environment.ensure(RUN)
    assert _installed(environment) == "2.0\n"
    assert left.exists()
    environment.making.touch()
    environment.ensure(RUN)
    assert _installed(environment) == "2.0\n"
    assert not left.exists()


def test_two_commands_at_once_make_it_once(environment: Environment) -> None:
    program = (
        "import sys, pathlib; sys.path.insert(0, sys.argv[1])\n"
        "from launcher.environment import Environment\n"
        "Environment(*map(pathlib.Path, sys.argv[2:])).ensure('run')\n"
    )
    words = [sys.executable, "-c", program, ROOT / "scripts", environment.path, environment.locks]
    both = [subprocess.Popen(words, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    told = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert sum("installing the packages" in each for each in told) == 1
    assert environment.satisfies(RUN)


def test_a_file_that_is_not_what_the_lock_says_is_refused(environment: Environment, tmp_path: Path) -> None:
    pinned = (environment.locks / "run.lock").read_text()
    _wheel(tmp_path, "1.0")
    with zipfile.ZipFile(tmp_path / "probe-1.0-py3-none-any.whl", "a") as wheel:
        wheel.writestr("probe_more.py", "")
    assert (environment.locks / "run.lock").read_text() == pinned
    with pytest.raises(Problem, match=r"requirements/run\.lock could not be installed"):
        environment.ensure(RUN)
    assert not environment.satisfies(RUN)


def test_a_folder_that_is_no_environment_is_left_alone(environment: Environment) -> None:
    environment.path.mkdir()
    precious = environment.path / "thesis.txt"
    precious.touch()
    with pytest.raises(Problem, match="is no virtual environment"):
        environment.ensure(RUN)
    assert precious.exists()


def test_no_two_packages_bring_the_same_module() -> None:
    """Which of the two is imported would be decided by the order of installation."""
    owners: dict[str, set[str]] = {}
    for package in distributions(path=[str(paths.site_packages())]):
        for entry in package.files or []:
            if entry.suffix == ".py" and ".dist-info" not in str(entry):
                owners.setdefault(str(entry), set()).add(package.name)
    assert {file: names for file, names in owners.items() if len(names) > 1} == {}


def test_the_locks_pin_every_package_by_hash_and_name_no_index() -> None:
    for name in ("run", "dev", "installer"):
        text = (ROOT / "requirements" / f"{name}.lock").read_text()
        assert "://" not in text
        assert "--index" not in text
        assert "--find-links" not in text
        for package in text.replace("\\\n", "").splitlines():
            assert "==" in package.split()[0]
            assert "--hash=sha256:" in package


def test_pips_configuration_is_read_with_pips_precedence() -> None:
    listing = """
        global.extra-index-url='https://one.test/simple\\nhttps://two.test/simple'
        global.index-url='https://global.test/simple'
        install.index-url='https://install.test/simple'
        :env:.index-url='https://env.test/simple'
        :env:.default-timeout='180'
        freeze.timeout='10'
    """
    told = indexes.read(listing)
    assert told["index-url"] == "https://env.test/simple"
    assert told["timeout"] == "180"
    assert told["extra-index-url"].split() == ["https://one.test/simple", "https://two.test/simple"]


def test_uv_is_told_what_pip_would_do_and_folders_that_are_absent_are_left_out(tmp_path: Path) -> None:
    pip = {
        "index-url": "https://index.test/simple",
        "extra-index-url": f"file:///absent/simple {tmp_path.as_uri()}",
        "find-links": f"/absent/wheels {tmp_path}",
        "cert": "/etc/ca.crt",
        "trusted-host": "a.test b.test",
    }
    told = indexes.uv_environment(pip, {"UV_DEFAULT_INDEX": "https://mine.test"})
    assert "UV_DEFAULT_INDEX" not in told
    assert told["UV_INDEX"] == tmp_path.as_uri()
    assert told["UV_FIND_LINKS"] == str(tmp_path)
    assert told["SSL_CERT_FILE"] == "/etc/ca.crt"
    assert told["UV_INSECURE_HOST"] == "a.test,b.test"
