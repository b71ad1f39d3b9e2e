"""A service that is down is answered for at once, with a hint when to try again."""

from __future__ import annotations

import ssl
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import grpc
import httpx
import pytest
from google.rpc import error_details_pb2, status_pb2

from envoy import bootstrap, certificates
from tests.edge.conftest import Edge, caller, free_ports, serve, until
from tests.edge.probe import GOOD_KEY, Schema

SOON = 3.0  # seconds; far above what a refusal takes, far below any time limit


def test_a_service_that_stops_is_refused_fast_and_found_again(own_edge: Edge, schema: Schema) -> None:
    edge, url = own_edge, own_edge.url("http")
    edge.probe.stop()
    began = time.monotonic()
    refused = httpx.get(f"{url}/v1/things/1")
    assert (refused.status_code, refused.json()["code"]) == (503, 14)
    assert refused.headers["retry-after"] == "1"
    assert [each["@type"].rpartition(".")[2] for each in refused.json()["details"]] == [
        "ErrorInfo",
        "RetryInfo",
    ]
    with grpc.insecure_channel(edge.target("http")) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            caller(channel, schema)("GetThing", {"thing_id": "1"})
        _hints_at_a_retry(caught.value)
    assert time.monotonic() - began < 2 * SOON

    until(lambda: edge.get("stats", "/healthz/probe")[0] == 503, "the edge sees the outage")
    assert edge.get("stats", "/healthz")[0] == 503
    assert httpx.get(f"{url}/v1/things/1", timeout=SOON).status_code == 503
    keyed = httpx.get(f"{url}/v1/things/1", headers={"x-api-key": GOOD_KEY}, timeout=SOON)
    assert (keyed.status_code, keyed.headers["retry-after"]) == (503, "1")
    assert httpx.get(f"{url}/docs", timeout=SOON).status_code == 200

    edge.probe.restart()
    until(lambda: edge.get("stats", "/healthz")[0] == 200, "the edge sees the return")
    back = httpx.get(f"{url}/v1/things/1", headers=edge.token())
    assert back.status_code == 200, back.text


def test_while_keys_are_missing_tokens_are_not_taken_for_bad(
    descriptor: Path, schema: Schema, tmp_path: Path
) -> None:
    with contextmanager(serve)(descriptor, schema, tmp_path, awake=False) as edge:
        url = edge.url("http") + "/v1/things"
        early = httpx.get(url, headers=edge.token())
        assert (early.status_code, early.json()["details"][0]["reason"]) == (503, "KEYS_UNAVAILABLE")
        assert early.headers["retry-after"] == "1"
        edge.probe.start()
        until(lambda: httpx.get(url, headers=edge.token()).status_code == 200, "the keys are fetched")


def test_an_api_key_opens_nothing_while_identity_is_down(
    descriptor: Path, schema: Schema, tmp_path: Path
) -> None:
    nobody = [f"127.0.0.1:{free_ports(1)[0]}"]
    with contextmanager(serve)(descriptor, schema, tmp_path, identity=nobody) as edge:
        url = edge.url("http") + "/v1/things/1"
        assert httpx.get(url).status_code == 200
        before = edge.probe.asked["GetThing"]
        refused = httpx.get(url, headers={"x-api-key": GOOD_KEY})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert edge.probe.asked["GetThing"] == before


def _hints_at_a_retry(error: grpc.RpcError) -> None:
    assert isinstance(error, grpc.Call)
    assert error.code() == grpc.StatusCode.UNAVAILABLE
    trailers = dict(error.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    retry = error_details_pb2.RetryInfo()
    assert status.details[1].Unpack(retry)
    assert retry.retry_delay.seconds == 1


def test_a_new_certificate_is_taken_up_without_a_restart(own_edge: Edge) -> None:
    folder = own_edge.settings.certificates
    port = own_edge.settings.port("https")
    assert port is not None

    def served() -> str:
        return ssl.get_server_certificate(("127.0.0.1", port), timeout=SOON)

    old = served()
    certificates.rotate(folder, datetime.now(UTC))
    until(lambda: served() != old, "the new certificate")
    trust = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    assert httpx.get(own_edge.url("https") + "/v1/things/1", verify=trust).status_code == 200
    bootstrap.write(own_edge.settings, own_edge.out)  # a second `up` keeps what is fresh
    assert httpx.get(own_edge.url("https") + "/v1/things/1", verify=trust).status_code == 200
