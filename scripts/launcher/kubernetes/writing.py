"""`scripts/weft kubernetes`: writes the manifests, the secrets that they name, or one canary."""

import json
import os
import sys
from argparse import Namespace
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from launcher import compose, paths, roster
from launcher.credentials import Credentials
from launcher.kubernetes import door, network, stores, terms, workload
from launcher.kubernetes.terms import Manifest
from launcher.problem import Problem, say

DEPLOY = Path("deploy")
SECRETS = compose.SECRETS / "kubernetes.yaml"
HEADER = "# Written by `scripts/weft kubernetes`; edit scripts/launcher/kubernetes/ instead.\n"


def kubernetes(arguments: Namespace) -> int:
    """Writes deploy/; or the secrets, which are never committed; or prints a canary."""
    names = roster.services(paths.root())
    if arguments.canary:
        print(text([workload.canary(_read(), arguments.canary)]), end="")
        return 0
    if arguments.secrets:
        _write_secrets(names)
        return 0
    write(paths.root(), names)
    say("deploy/ is written; see docs/kubernetes.md")
    return 0


def write(root: Path, names: list[str]) -> None:
    """All generated files; those of services that are gone go too."""
    for old in (root / DEPLOY / "base").glob("*"):
        old.unlink()
    for name, content in files(names).items():
        path = root / DEPLOY / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def files(names: list[str]) -> dict[str, str]:
    """What is generated, by path below deploy/."""
    services = {
        f"base/{name}.yaml": text([*workload.manifests(name), network.of_service(name)]) for name in names
    }
    return {
        **services,
        "base/edge.yaml": text(door.manifests()),
        "base/edge.json": door.values(names),
        "base/namespace.yaml": text([_namespace()]),  # Alone: it is applied before Kustomize says where.
        "base/network.yaml": text([network.denial(), network.of_nats()]),
        "base/kustomization.yaml": text([_kustomization(names)]),
        "postgres/cluster.yaml": text(stores.cluster(names)),
        "nats/values.yaml": text([stores.nats_values()]),
    }


def text(manifests: Iterable[Any]) -> str:
    """YAML documents; what is the same in two places is written out in both."""
    import yaml

    plain = [json.loads(json.dumps(each)) for each in manifests]
    return HEADER + str(yaml.safe_dump_all(plain, sort_keys=False, width=110, explicit_start=len(plain) > 1))


def _namespace() -> Manifest:
    """Pods that could harm a node are not let in."""
    level = {"pod-security.kubernetes.io/enforce": "restricted"}
    metadata = {"name": terms.NAMESPACE, "labels": {"app.kubernetes.io/part-of": "weft", **level}}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


def _kustomization(names: list[str]) -> Manifest:
    """ConfigMaps are made here, with a hash in their names: a change of a setting rolls the pods."""
    settings = {
        "WEFT_ISSUER": terms.EXAMPLE,
        "WEFT_EDGE_URL": terms.EXAMPLE,
        "WEFT_NATS_REPLICAS": str(stores.SERVERS),
    }
    literals = [f"{name}={value}" for name, value in settings.items()]
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": terms.NAMESPACE,
        "resources": ["namespace.yaml", "network.yaml", "edge.yaml", *(f"{name}.yaml" for name in names)],
        "configMapGenerator": [
            {"name": terms.SETTINGS, "literals": literals},
            {"name": terms.EDGE, "files": [door.FILE]},
        ],
    }


def _read() -> Manifest:
    """A Deployment as `kubectl get -o json` prints it. Raises Problem."""
    try:
        found = json.load(sys.stdin)
        if found["kind"] == "Deployment" and terms.TRACK in found["spec"]["selector"]["matchLabels"]:
            return dict(found)
    except (ValueError, TypeError, KeyError):
        pass
    raise Problem("stdin is no Deployment of a service", "kubectl get deployment NAME -o json | ...")


def _write_secrets(names: list[str]) -> None:
    path = paths.root() / SECRETS
    path.parent.mkdir(parents=True, exist_ok=True)
    path.parent.chmod(0o700)
    known = Credentials.of(path.parent / "secrets.json", names)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as opened:
        opened.write(text(secrets(names, known)))
    say(f"{SECRETS} holds the secrets that the manifests refer to: kubectl apply -f {SECRETS}")


def secrets(names: list[str], known: Credentials) -> list[Manifest]:
    """One Secret for the mesh, one for each role, one for each service that has keys of its own."""
    made = [_secret("mesh", {"WEFT_MESH_KEY": known.mesh_key, "NATS_PASSWORD": known.nats})]
    first = {"EMAIL": known.admin_email, "PASSWORD": known.admin_password}
    for name in names:
        role = {"username": name, "password": known.databases[name]}
        made.append(_secret(terms.database_password(name).secret, role, "kubernetes.io/basic-auth"))
        own = {key.key: known.keys[name] for key in terms.OWN.get(name, ()) if not key.optional}
        if name == "identity":
            own |= {f"WEFT_IDENTITY_BOOTSTRAP_{key}": value for key, value in first.items()}
        made += [_secret(name, own)] if own else []
    return made


def _secret(name: str, values: dict[str, str], kind: str = "Opaque") -> Manifest:
    metadata = {"name": name, "namespace": terms.NAMESPACE}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": kind, "stringData": values}
