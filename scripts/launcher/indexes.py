"""pip's own configuration, said in uv's words: indexes, certificates, proxies.

A machine's administrator configures pip (files, PIP_* variables); uv does not read that. Whatever pip
would use, uv is told to use, and nothing else. Every package is pinned by hash, so taking the best match
over all indexes, as pip does, cannot bring in a stranger's file.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

LINE = re.compile(r"(global|install|:env:)\.([\w.-]+)=(.*)")
RANK = {"global": 0, "install": 1, ":env:": 2}  # pip's order: the later wins.


def pip_configuration(python: str = sys.executable) -> dict[str, str]:
    """What `pip config list` says, by option; empty if pip cannot tell."""
    done = subprocess.run(
        [python, "-m", "pip", "config", "list"],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return read(done.stdout)


def read(listing: str) -> dict[str, str]:
    """The options of a `pip config list`, each from its strongest source."""
    found: dict[str, tuple[int, str]] = {}
    for line in listing.splitlines():
        if not (match := LINE.fullmatch(line.strip())):
            continue
        source, option, literal = match.groups()
        option = option.removeprefix("default-")
        if RANK[source] >= found.get(option, (-1, ""))[0]:
            found[option] = (RANK[source], str(ast.literal_eval(literal)))
    return {option: value for option, (_, value) in found.items()}


def uv_environment(pip: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """Variables for uv that mean what `pip` means; those that are set in `environ` already stay."""
    told = {
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_DEFAULT_INDEX": _present(pip.get("index-url", "")),
        "UV_INDEX": _present(pip.get("extra-index-url", "")),
        "UV_FIND_LINKS": _present(pip.get("find-links", "")).replace(" ", ","),
        "SSL_CERT_FILE": pip.get("cert", ""),
        "SSL_CLIENT_CERT": pip.get("client-cert", ""),
        "UV_INSECURE_HOST": ",".join(pip.get("trusted-host", "").split()),
        "HTTPS_PROXY": pip.get("proxy", ""),
        "HTTP_PROXY": pip.get("proxy", ""),
        "UV_HTTP_TIMEOUT": pip.get("timeout", ""),
        "UV_NO_INDEX": "1" if pip.get("no-index", "").lower() in {"1", "true", "yes", "on"} else "",
    }
    return {name: value for name, value in told.items() if value and name not in environ}


def _present(places: str) -> str:
    """Those of `places` that may exist: pip overlooks a folder that is not there, uv refuses it."""
    return " ".join(place for place in places.split() if _may_exist(place))


def _may_exist(place: str) -> bool:
    url = urlsplit(place)
    if url.scheme == "file":
        return Path(url2pathname(url.path)).exists()
    return bool(url.scheme) or Path(place).exists()
