"""The manifests name what there is: consumers, metrics, probes, flags, and one another."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from services.chassis.jobs import subjects
from services.worker.__main__ import parser
from services.worker.managing import WANTED
from services.worker.settings import WorkerSettings

FOLDER = Path(__file__).parent.parent.parent / "deploy" / "kubernetes"


def manifest(name: str) -> Any:
    return yaml.safe_load((FOLDER / f"{name}.yaml").read_text())


@pytest.fixture
def container() -> Any:
    [only] = manifest("worker")["spec"]["template"]["spec"]["containers"]
    return only


@pytest.mark.parametrize("name", ["keda", "hpa"])
def test_a_scaler_scales_the_deployment(name: str) -> None:
    deployment = manifest("worker")
    assert manifest(name)["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels == deployment["metadata"]["labels"]
    assert "replicas" not in deployment["spec"]  # They are the scaler's.


def test_keda_looks_at_every_place_where_jobs_wait() -> None:
    triggers = [each["metadata"] for each in manifest("keda")["spec"]["triggers"]]
    assert {each["stream"] for each in triggers} == {subjects.STREAM}
    wanted = [subjects.consumer("default", place) for place in subjects.places(0)]
    assert [each["consumer"] for each in triggers] == wanted


def test_the_autoscaler_follows_the_metric_that_is_exported() -> None:
    [metric] = manifest("hpa")["spec"]["metrics"]
    [exported] = WANTED.collect()
    assert metric["external"]["metric"]["name"] == exported.name
    assert metric["external"]["target"] == {"type": "AverageValue", "averageValue": "1"}


def test_the_container_is_started_as_a_worker_understands(container: Any) -> None:
    words = parser().parse_args(container["args"])
    assert (words.modules, words.queue, words.pool) == (["shop.jobs"], ["default"], "default")
    names = {each["name"]: each.get("value") for each in container["env"]}
    assert WorkerSettings(drain_s=float(names["WEFT_WORKER_DRAIN_S"])).drain_s == 20
    grace_s = manifest("worker")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace_s > 20 + 4  # And the time for telling.
    assert names["WEFT_METRICS_ADDRESS"].endswith(f":{container['ports'][0]['containerPort']}")
