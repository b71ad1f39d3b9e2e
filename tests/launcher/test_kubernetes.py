"""deploy/ says what compose.yaml says, in words that Kubernetes takes, and all its parts fit one another."""

import dataclasses
import io
import json
import os
import re
import subprocess
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kubernetes_validate
import pytest
import yaml

from launcher import compose, nats, paths, postgres
from launcher.credentials import Credentials
from launcher.kubernetes import door, stores, terms, workload, writing
from launcher.problem import Problem
from services.chassis import config, health
from tests.launcher.conftest import ROOT
from tests.launcher.manifests import (
    DEPLOY,
    NAMES,
    PLATFORM,
    all_of,
    containers,
    every,
    of,
    pod_labels,
    selects,
)

FILES = sorted({path for path, _ in every()})
BESIDE = {"edge", "weft-worker-default"}  # Deployments that are no service.
OTHERS = {"Cluster", "Database", "Gateway", "PodMonitor", "ScaledObject", "ServiceMonitor", "TLSRoute"}


def valid(manifest: Any) -> None:
    """By the schema of the newest Kubernetes that the package has, and with no field besides."""
    version = kubernetes_validate.latest_version()
    kubernetes_validate.validate(manifest, version, strict=True)


def test_what_is_generated_is_current() -> None:
    written = writing.files(NAMES)
    stale = [name for name, text in written.items() if (DEPLOY / name).read_text() != text]
    assert stale == [], "run `scripts/weft kubernetes`"
    assert {f"base/{path.name}" for path in (DEPLOY / "base").iterdir()} == {
        name for name in written if name.startswith("base/")
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(DEPLOY).as_posix())
def test_kubernetes_takes_each_manifest(path: Path) -> None:
    found = [each for file, each in every() if file == path]
    assert {each["kind"] for each in found} <= PLATFORM | OTHERS
    for each in found:
        if each["kind"] in PLATFORM:
            valid(each)


def test_a_field_that_kubernetes_does_not_know_is_seen() -> None:
    wrong = json.loads(json.dumps(of("Deployment", "audit")))
    wrong["spec"]["template"]["spec"]["containers"][0]["redinessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        valid(wrong)


@pytest.mark.parametrize("name", NAMES)
def test_each_service_has_one_of_each_kind(name: str) -> None:
    kinds = PLATFORM - {"ConfigMap", "Namespace", "Secret"} | {"ServiceMonitor"}
    assert [kind for kind in sorted(kinds) if name not in all_of(kind)] == []


def test_each_deployment_is_a_service_or_known_here() -> None:
    assert set(all_of("Deployment")) == {*NAMES, *BESIDE}


@pytest.mark.parametrize("name", [*NAMES, "edge"])
def test_what_selects_a_deployment_finds_its_pods_and_no_others(name: str) -> None:
    mine = pod_labels(of("Deployment", name))
    others = [pod_labels(each) for key, each in all_of("Deployment").items() if key != name]
    monitored = of("ServiceMonitor", name)["spec"]
    selectors = [
        of("Deployment", name)["spec"]["selector"],
        {"matchLabels": of("Service", name)["spec"]["selector"]},
        of("PodDisruptionBudget", name)["spec"]["selector"],
        of("NetworkPolicy", name)["spec"]["podSelector"],
        *(each["labelSelector"] for each in spread(name)),
    ]
    assert all(selects(chosen, mine) for chosen in selectors)
    assert not any(selects(chosen, labels) for chosen in selectors for labels in others)
    assert selects(monitored["selector"], of("Service", name)["metadata"]["labels"])
    assert of("HorizontalPodAutoscaler", name)["spec"]["scaleTargetRef"]["name"] == name
    assert "replicas" not in of("Deployment", name)["spec"]  # They are the autoscaler's.


def spread(name: str) -> Any:
    return of("Deployment", name)["spec"]["template"]["spec"]["topologySpreadConstraints"]


@pytest.mark.parametrize("name", [*NAMES, "edge"])
def test_ports_are_those_of_compose_and_lead_to_containers(name: str) -> None:
    listens = {
        port["name"]: port["containerPort"]
        for container in containers(of("Deployment", name))
        for port in container.get("ports", [])
    }
    offered = {port["name"]: port for port in of("Service", name)["spec"]["ports"]}
    assert {key: port["port"] for key, port in offered.items()} == listens
    assert all(port["targetPort"] == key for key, port in offered.items())
    assert of("ServiceMonitor", name)["spec"]["endpoints"][0]["port"] in listens
    if name == "edge":
        settings = json.loads((DEPLOY / "base" / "edge.json").read_text())
        assert (listens["https"], listens["mesh"]) == (settings["ports"]["https"], settings["ports"]["mesh"])
    else:
        said = compose.environment(name)
        numbers = {said[key].rpartition(":")[2] for key in ("WEFT_ADDRESS", "WEFT_METRICS_ADDRESS")}
        assert numbers == {str(port) for port in listens.values()}


@pytest.mark.parametrize("name", [*NAMES, *sorted(BESIDE)])
def test_a_pod_may_do_nothing_that_it_need_not(name: str) -> None:
    pod = of("Deployment", name)["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    for container in containers(of("Deployment", name)):
        allowed = container["securityContext"]
        assert allowed["readOnlyRootFilesystem"] is True
        assert allowed["allowPrivilegeEscalation"] is False
        assert allowed["capabilities"] == {"drop": ["ALL"]}
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
        assert "memory" in container["resources"]["limits"]


@pytest.mark.parametrize("name", NAMES)
def test_probes_ask_what_the_process_answers_and_a_stop_has_its_time(name: str) -> None:
    pod = of("Deployment", name)["spec"]["template"]["spec"]
    [container] = pod["containers"]
    asked = {kind: container[f"{kind}Probe"]["grpc"] for kind in ("startup", "readiness", "liveness")}
    assert asked["startup"]["service"] == asked["liveness"]["service"] == health.LIVE
    assert asked["readiness"]["service"] == ""
    assert {probe["port"] for probe in asked.values()} == {compose.PORTS.services}
    settles = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > settles + field_default("drain_s")
    allowed = compose.document([name])["services"][name]["stop_grace_period"]
    assert pod["terminationGracePeriodSeconds"] - settles == int(allowed.rstrip("s"))
    assert container["args"] == compose.document([name])["services"][name]["command"]


def field_default(name: str) -> Any:
    [found] = [each.default for each in dataclasses.fields(config.Settings) if each.name == name]
    return found


def environment(name: str, known: Credentials) -> dict[str, str]:
    """What the kubelet would give a service's container, the secrets being those that are written."""
    made = {each["metadata"]["name"]: each["stringData"] for each in writing.secrets(NAMES, known)}
    [kustomization] = yaml.safe_load_all((DEPLOY / "base" / "kustomization.yaml").read_text())
    [shared] = [each for each in kustomization["configMapGenerator"] if each["name"] == terms.SETTINGS]
    values = dict(literal.split("=", 1) for literal in shared["literals"])
    [container] = containers(of("Deployment", name))
    for each in container["env"]:
        if wanted := each.get("valueFrom", {}).get("secretKeyRef"):
            found = made.get(wanted["name"], {}).get(wanted["key"])
            assert found or wanted.get("optional"), wanted
            values |= {each["name"]: found} if found else {}
        else:
            values[each["name"]] = expanded(each["value"], values)
    return values


def expanded(text: str, values: dict[str, str]) -> str:
    """As the kubelet does: a name must stand before what names it."""
    return re.sub(r"\$\((\w+)\)", lambda hit: values[hit[1]], text)


@pytest.mark.parametrize("name", NAMES)
def test_a_process_can_start_with_what_its_container_is_told(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = Credentials.of(tmp_path / "secrets.json", NAMES)
    told = environment(name, known)
    monkeypatch.setenv(f"WEFT_DATABASE_URL_{name.upper()}", told[f"WEFT_DATABASE_URL_{name.upper()}"])
    settings = config.load(config.Settings, told)
    assert settings.development is False
    database = urlsplit(settings.database(name))
    assert (database.username, database.password) == (name, known.databases[name])
    assert (database.hostname, database.port, database.path) == ("postgres-rw", 5432, f"/{name}")
    bus = urlsplit(settings.nats_url)
    assert (bus.username, bus.password, bus.hostname) == (nats.USER, known.nats, "nats")
    meant = set(compose.environment(name)) - {"WEFT_DEVELOPMENT"}
    assert {each for each in meant if "MAILBOX" not in each} <= told.keys()


def secret_settings() -> set[str]:
    """Variables of all services that hold a secret, by their names."""
    found = set()
    for kind, prefix in import_module("papers").settings_classes():
        for each in dataclasses.fields(kind):
            if re.search(r"(^|_)(key|password|secret|token)$", each.name):
                found.add(prefix + each.name.upper())
    return found


def test_every_secret_that_a_setting_holds_comes_from_a_secret() -> None:
    referred = {key.variable for name in NAMES for key in terms.keys(name)}
    assert secret_settings() <= referred
    assert set(terms.OWN) <= set(NAMES)


def test_every_secret_that_is_wanted_is_told_of() -> None:
    paper = (ROOT / "docs" / "kubernetes.md").read_text()
    wanted = {(key.secret, key.key) for name in NAMES for key in terms.OWN.get(name, ())}
    wanted |= {(key.secret, key.key) for key in (terms.MESH_KEY, terms.NATS_PASSWORD)}
    wanted |= {("database-<service>", "password"), (door.CERTIFICATE, "tls.key")}
    assert [each for each in sorted(wanted) if not re.search(rf"\| `{each[0]}` \|.*`{each[1]}`", paper)] == []


def test_no_secret_is_in_the_tree_and_those_that_are_written_are_valid(tmp_path: Path) -> None:
    assert all_of("Secret") == {}
    for each in writing.secrets(NAMES, Credentials.of(tmp_path / "secrets.json", NAMES)):
        valid(each)
        assert each["metadata"]["namespace"] == terms.NAMESPACE


def test_secrets_are_written_for_their_owner_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "root", lambda: tmp_path)
    writing._write_secrets(NAMES)
    assert (tmp_path / writing.SECRETS).stat().st_mode & 0o777 == 0o600


def test_postgresql_gives_each_service_a_role_and_a_database_that_no_other_enters() -> None:
    cluster = of("Cluster", "postgres")["spec"]
    roles = {each["name"]: each["passwordSecret"]["name"] for each in cluster["managed"]["roles"]}
    assert roles == {name: f"database-{name}" for name in NAMES}
    owners = {each["spec"]["name"]: each["spec"]["owner"] for each in all_of("Database").values()}
    assert owners == {name: name for name in NAMES}
    rules = cluster["postgresql"]["pg_hba"]
    for name in NAMES:  # PostgreSQL goes by the first rule that fits.
        assert [rule for rule in rules if name in rule.split()] == [
            f"hostssl {name} {name} all scram-sha-256",
            f"host all {name} all reject",
        ]


def test_postgresql_has_room_for_all_pods_that_autoscalers_may_make() -> None:
    most = sum(
        each["spec"]["maxReplicas"] for key, each in all_of("HorizontalPodAutoscaler").items() if key in NAMES
    )
    parameters = of("Cluster", "postgres")["spec"]["postgresql"]["parameters"]
    each_has = field_default("pool_max") + 1  # And one that listens.
    assert int(parameters["max_connections"]) >= (most + len(NAMES)) * each_has  # One more while rolled out.
    assert parameters | {"max_connections": ""} == postgres.SETTINGS | {"max_connections": ""}


def test_nats_accepts_what_its_chart_is_told(tmp_path: Path) -> None:
    [values] = yaml.safe_load_all((DEPLOY / "nats" / "values.yaml").read_text())
    streams, env = values["config"]["jetstream"], values["container"]["env"]
    settings = {
        **values["config"]["merge"],
        "jetstream": {
            "store_dir": str(tmp_path),
            "max_memory_store": f"<< {streams['memoryStore']['maxSize']} >>",
            "max_file_store": f"<< {streams['fileStore']['maxSize']} >>",
            **streams["merge"],
        },
    }
    text = re.sub(r'"<< (.*?) >>"', r"\1", json.dumps(settings))  # As the chart does.
    assert f'"password": ${terms.NATS_PASSWORD.variable}}}' in text  # Quoted, it would be the password.
    assert re.findall(r"_store\": (\w+)", text) == ["256Mi", "10Gi"]
    (tmp_path / "nats.conf").write_text(text)
    command = [nats.program(), "--config", tmp_path / "nats.conf", "-t"]
    environ = {**os.environ, **dict.fromkeys(env, "secret")}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert streams["merge"]["sync_interval"] == nats.JETSTREAM["sync_interval"]
    assert values["container"]["image"]["tag"] == compose.NATS_IMAGE.rpartition(":")[2]


def test_sizes_are_told_in_units_that_stay_whole() -> None:
    assert [stores._binary(size) for size in (3, 1024, 268_435_456, 10_737_418_240)] == [
        "3",
        "1Ki",
        "256Mi",
        "10Gi",
    ]


def test_the_scaler_of_workers_looks_into_the_account_of_the_mesh() -> None:
    told = [each["metadata"] for each in of("ScaledObject", "weft-worker-default")["spec"]["triggers"]]
    assert {each["account"] for each in told} == {nats.ACCOUNT}
    assert {each["natsServerMonitoringEndpoint"].rpartition(":")[2] for each in told} == {
        str(compose.PORTS.monitor)
    }


def test_a_canary_is_counted_in_by_the_service_and_by_nobody_else() -> None:
    stable = of("Deployment", "order") | {"status": {"replicas": 2}}
    stable["metadata"] = stable["metadata"] | {"namespace": "weft", "uid": "1", "resourceVersion": "2"}
    canary = workload.canary(stable, "weft:2")
    valid(canary)
    assert canary["metadata"] | {"labels": {}} == {"name": "order-canary", "namespace": "weft", "labels": {}}
    assert canary["spec"]["template"]["spec"]["containers"][0]["image"] == "weft:2"
    assert not selects(stable["spec"]["selector"], pod_labels(canary))
    assert not selects(canary["spec"]["selector"], pod_labels(stable))
    assert selects(canary["spec"]["selector"], pod_labels(canary))
    assert selects({"matchLabels": of("Service", "order")["spec"]["selector"]}, pod_labels(canary))
    assert of("Deployment", "order")["spec"]["template"]["spec"]["containers"][0]["image"] == "weft"


@pytest.mark.parametrize(
    "said", ["", "[]", '{"kind": "List"}', '{"kind": "Deployment", "spec": {"selector": {}}}']
)
def test_a_canary_of_nothing_is_refused_in_a_line(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(said))
    with pytest.raises(Problem, match="stdin is no Deployment"):
        writing._read()
