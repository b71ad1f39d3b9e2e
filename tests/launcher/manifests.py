"""What lies in deploy/, read once, for the tests of it."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from launcher import roster
from tests.launcher.conftest import ROOT

DEPLOY = ROOT / "deploy"
NAMES = roster.services(ROOT)
MINE = ("base", "postgres", "kubernetes", "gateway")
# Kinds of Kubernetes itself, whose schemas are known; the other kinds here are of operators.
PLATFORM = {"ConfigMap", "Deployment", "HorizontalPodAutoscaler", "Namespace", "NetworkPolicy"}
PLATFORM |= {"PodDisruptionBudget", "Secret", "Service", "ServiceAccount"}
NO_RESOURCES = {"kustomization.yaml", "hpa.yaml"}  # hpa.yaml stands in for keda.yaml where there is no KEDA.


@cache
def every() -> tuple[tuple[Path, Any], ...]:
    """Each resource of the four folders, with its file."""
    return tuple(_read())


def _read() -> Iterator[tuple[Path, Any]]:
    for folder in MINE:
        for path in sorted((DEPLOY / folder).glob("*.yaml")):
            if path.name not in NO_RESOURCES:
                yield from ((path, document) for document in documents(path))


def documents(path: Path) -> list[Any]:
    return [document for document in yaml.load_all(path.read_text(), yaml.CSafeLoader) if document]


def of(kind: str, name: str) -> Any:
    """The one resource of that kind and name."""
    [found] = [each for _, each in every() if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found


def all_of(kind: str) -> dict[str, Any]:
    return {each["metadata"]["name"]: each for _, each in every() if each["kind"] == kind}


def containers(deployment: Any) -> list[Any]:
    pod = deployment["spec"]["template"]["spec"]
    return [*pod.get("initContainers", []), *pod["containers"]]


def pod_labels(deployment: Any) -> dict[str, str]:
    return dict(deployment["spec"]["template"]["metadata"]["labels"])


def selects(chosen: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a label selector takes these labels; an empty one takes all."""
    equal = all(labels.get(key) == value for key, value in chosen.get("matchLabels", {}).items())
    return equal and all(
        rule["operator"] == "In" and labels.get(rule["key"]) in rule["values"]
        for rule in chosen.get("matchExpressions", [])
    )
