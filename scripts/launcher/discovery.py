"""Whether processes register themselves, and whether the edge learns from the registry where they are."""

import tomllib
from collections.abc import Mapping

from launcher import paths
from launcher.ports import HOST, Ports
from launcher.problem import Problem

VARIABLE, ADS = "WEFT_EDGE_DISCOVERY", "ads"
REGISTRY = "registry"
TRUE = {"1", "true", "yes", "on"}


def ads(environ: Mapping[str, str]) -> bool:
    """Whether the edge is told by ADS; else its clusters are generated. Raises Problem."""
    chosen = environ.get(VARIABLE, "")
    if chosen not in ("", ADS):
        raise Problem(f"{VARIABLE}={chosen} is no way to discover", f"unset it, or set it to {ADS}")
    return chosen == ADS


def check(names: list[str], environ: Mapping[str, str]) -> None:
    """Raises Problem for a mesh whose edge would ask a registry that is not there."""
    if ads(environ) and REGISTRY not in names:
        raise Problem(f"{VARIABLE}={ADS} needs the registry", "name it in WEFT_SERVICES, or leave that unset")


def settings(ports: Ports, environ: Mapping[str, str]) -> dict[str, str]:
    """Of every process; none unless they are to register."""
    told = ads(environ)
    if not told and environ.get("WEFT_REGISTER", "").lower() not in TRUE:
        return {}
    found = {
        "WEFT_REGISTER": "1",
        "WEFT_VERSION": environ.get("WEFT_VERSION") or _version(),
        "WEFT_REGISTRY_ENVOY_METRICS": f"{HOST}:{ports.stats}",
    }
    return {**found, **({"WEFT_REGISTRY_LIKE_EDGE": "1"} if told else {})}


def _version() -> str:
    """Of this checkout."""
    project = tomllib.loads((paths.root() / "pyproject.toml").read_text())
    return str(project["project"]["version"])
