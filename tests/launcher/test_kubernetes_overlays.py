"""Overlays change what is there, settings have the names that services read, and the edge takes its file."""

import dataclasses
import json
import shutil
import subprocess
from importlib import import_module
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from launcher.kubernetes import terms
from tests.launcher.manifests import DEPLOY, NAMES, PLATFORM, all_of, containers, every, of

OVERLAYS = sorted(path.parent.name for path in DEPLOY.glob("overlays/*/kustomization.yaml"))
ROOTS = [DEPLOY / "overlays" / name / "kustomization.yaml" for name in OVERLAYS]
KUSTOMIZATIONS = sorted(DEPLOY.rglob("kustomization.yaml"))


def overlay(name: str) -> Any:
    return yaml.safe_load((DEPLOY / "overlays" / name / "kustomization.yaml").read_text())


def at(manifest: Any, pointer: str) -> Any:
    """What a JSON pointer leads to. Raises LookupError."""
    for step in pointer.strip("/").split("/"):
        manifest = manifest[int(step)] if isinstance(manifest, list) else manifest[step]
    return manifest


def matched(target: dict[str, str]) -> list[Any]:
    return [
        each
        for _, each in every()
        if each["kind"] == target["kind"]
        and target.get("name", each["metadata"]["name"]) == each["metadata"]["name"]
    ]


@pytest.mark.parametrize("path", KUSTOMIZATIONS, ids=lambda path: path.parent.relative_to(DEPLOY).as_posix())
def test_what_a_kustomization_names_is_there(path: Path) -> None:
    told = yaml.safe_load(path.read_text())
    files = [file for each in told.get("configMapGenerator", []) for file in each.get("files", [])]
    for name in [*told["resources"], *files]:
        found = path.parent / name
        assert (found / "kustomization.yaml").exists() if found.is_dir() else found.is_file(), name
    own = {file.name for file in path.parent.glob("*.yaml")} - {"kustomization.yaml", "hpa.yaml"}
    assert own <= set(told["resources"]), "every manifest beside it is taken in"
    for patch in told.get("patches", []):
        assert matched(patch["target"]), patch["target"]
        for step in yaml.safe_load(patch["patch"]):
            assert step["op"] in ("replace", "remove")
            for manifest in matched(patch["target"]):
                at(manifest, step["path"])


def test_what_is_applied_without_kustomize_says_its_namespace() -> None:
    [first] = [each for path, each in every() if path == DEPLOY / "base" / "namespace.yaml"]
    assert (first["kind"], first["metadata"]["name"]) == ("Namespace", terms.NAMESPACE)
    assert all(yaml.safe_load(path.read_text()).get("namespace") == terms.NAMESPACE for path in ROOTS)


def test_kustomize_finds_pods_alone_where_it_looks_for_images() -> None:
    """It stops at a `spec.template` that is a word, as CloudNativePG's Database may have."""
    templates = [each["spec"]["template"] for _, each in every() if "template" in each.get("spec", {})]
    assert templates
    assert all(template["spec"]["containers"] for template in templates)


@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlay_says_which_images_and_where_the_edge_is(name: str) -> None:
    used = {container["image"] for each in all_of("Deployment").values() for container in containers(each)}
    taken = {image["name"] for image in overlay(name)["images"]}
    assert taken <= used
    assert "weft" in taken
    literals = settings(name)
    assert literals["WEFT_ISSUER"] == literals["WEFT_EDGE_URL"]


def settings(name: str) -> dict[str, str]:
    [merged] = overlay(name)["configMapGenerator"]
    assert (merged["name"], merged["behavior"]) == (terms.SETTINGS, "merge")
    return dict(literal.split("=", 1) for literal in merged["literals"])


@pytest.mark.parametrize("name", OVERLAYS)
def test_settings_of_an_overlay_are_read_by_services_and_are_no_secrets(name: str) -> None:
    known = {
        prefix + each.name.upper()
        for kind, prefix in import_module("papers").settings_classes()
        for each in dataclasses.fields(kind)
    }
    assert set(settings(name)) <= known
    assert not set(settings(name)) & {key.variable for each in NAMES for key in terms.keys(each)}


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_issuer_gets_into_the_file_of_the_edge(name: str) -> None:
    [replaced] = overlay(name)["replacements"]
    [target] = replaced["targets"]
    assert target["fieldPaths"] == [r"data.edge\.json"]
    words = (DEPLOY / "base" / "edge.json").read_text().split(target["options"]["delimiter"])
    assert words[1] == "issuer"
    assert words[target["options"]["index"]] == terms.EXAMPLE


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("kubectl"), reason="no kubectl here to build with")
@pytest.mark.parametrize("name", OVERLAYS)
def test_what_kubectl_builds_is_valid_and_carries_the_issuer(name: str) -> None:
    command = ["kubectl", "kustomize", str(DEPLOY / "overlays" / name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    built = list(yaml.load_all(done.stdout, yaml.CSafeLoader))
    for each in built:
        if each["kind"] in PLATFORM:
            kubernetes_validate.validate(each, kubernetes_validate.latest_version(), strict=True)
    [edge] = [each["data"]["edge.json"] for each in built if "edge.json" in each.get("data", {})]
    assert json.loads(edge)["issuer"] == settings(name)["WEFT_ISSUER"]
    assert not any("image: weft" in line.split("#")[0] for line in done.stdout.splitlines())


def test_autoscalers_of_overlays_stay_within_what_postgresql_has_room_for() -> None:
    raised = [
        (patch["target"], step)
        for name in OVERLAYS
        for patch in overlay(name)["patches"]
        for step in yaml.safe_load(patch["patch"])
        if step["path"] == "/spec/maxReplicas"
    ]
    bound = of("HorizontalPodAutoscaler", "audit")["spec"]["maxReplicas"]
    assert raised
    assert all(step["value"] <= bound for target, step in raised if target.get("name") != "edge")


def test_the_edge_takes_its_file_and_finds_its_certificate(tmp_path: Path) -> None:
    from envoy import certificates, settings as taken

    told = taken.from_values(json.loads((DEPLOY / "base" / "edge.json").read_text()))
    assert sorted(told.services) == NAMES
    assert all(told.services[name] == [f"{name}:50051"] for name in NAMES)
    assert told.port("http") is None
    secret = json.dumps(certificates.secret(told.certificates))
    pod = of("Deployment", "edge")["spec"]["template"]["spec"]
    [mounted] = [volume["secret"] for volume in pod["volumes"] if "secret" in volume]
    [envoy] = pod["containers"]
    folders = {mount["name"]: mount["mountPath"] for mount in envoy["volumeMounts"]}
    for item in mounted["items"]:
        assert f'"{folders["certificate"]}/{item["path"]}"' in secret
