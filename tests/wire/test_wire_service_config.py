"""A service config says how calls are made; a wrong one is refused, and the field is named."""

import json
from typing import Any

import grpc
import pytest

from services.chassis.wire.client.fields import ConfigError
from services.chassis.wire.client.service_config import (
    Balancing,
    HedgingPolicy,
    MethodConfig,
    RetryPolicy,
    ServiceConfig,
    Throttling,
    parse,
)

RETRY = {
    "maxAttempts": 3,
    "initialBackoff": "0.05s",
    "maxBackoff": "1s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
HEDGING = {"maxAttempts": 3, "hedgingDelay": "0.5s", "nonFatalStatusCodes": ["UNAVAILABLE"]}


def config(**of_method: Any) -> ServiceConfig:
    return parse(json.dumps({"methodConfig": [{"name": [{}], **of_method}]}))


def test_an_empty_config_changes_nothing() -> None:
    assert parse("{}") == ServiceConfig()
    assert parse("{}").method("/a.B/C") == MethodConfig()


def test_every_field_is_read() -> None:
    found = config(
        timeout="10.5s",
        waitForReady=True,
        retryPolicy=RETRY,
        maxRequestMessageBytes=10,
        maxResponseMessageBytes="20",
    ).method("/a.B/C")
    retry = RetryPolicy(3, 0.05, 1.0, 2.0, frozenset({grpc.StatusCode.UNAVAILABLE}))
    assert found == MethodConfig(10.5, True, retry, None, 10, 20)


def test_hedging_may_be_immediate_and_have_no_codes() -> None:
    assert config(hedgingPolicy={"maxAttempts": 2}).method("/a.B/C").hedging == HedgingPolicy(
        2, 0.0, frozenset()
    )


def test_the_nearest_name_decides() -> None:
    entries = [
        {"name": [{}], "timeout": "1s"},
        {"name": [{"service": "a.B"}], "timeout": "2s"},
        {"name": [{"service": "a.B", "method": "C"}, {"service": "x.Y", "method": "Z"}], "timeout": "3s"},
    ]
    found = parse(json.dumps({"methodConfig": entries}))
    paths = ["/a.B/C", "/x.Y/Z", "/a.B/D", "/x.Y/W", "nothing", "/"]
    assert [found.method(path).timeout_s for path in paths] == [3, 3, 2, 1, 1, 1]


def test_codes_have_names_in_any_case_or_numbers() -> None:
    found = config(retryPolicy={**RETRY, "retryableStatusCodes": ["Unavailable", 8, "ABORTED"]})
    retry = found.method("/a.B/C").retry
    assert retry is not None
    codes = grpc.StatusCode
    assert retry.codes == {codes.UNAVAILABLE, codes.RESOURCE_EXHAUSTED, codes.ABORTED}


def test_more_attempts_than_allowed_are_cut() -> None:
    retry = config(retryPolicy={**RETRY, "maxAttempts": 99}).method("/a.B/C").retry
    hedging = config(hedgingPolicy={**HEDGING, "maxAttempts": 99}).method("/a.B/C").hedging
    assert retry is not None
    assert hedging is not None
    assert (retry.attempts_max, hedging.attempts_max) == (5, 5)


def test_waits_grow_to_their_bound() -> None:
    retry = config(retryPolicy=RETRY).method("/a.B/C").retry
    assert retry is not None
    assert [round(retry.backoff_s(n, 1.0), 3) for n in range(6)] == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0]
    assert retry.backoff_s(0, 0.8) == pytest.approx(0.04)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"loadBalancingConfig": [{"round_robin": {}}]}, Balancing("round_robin")),
        ({"loadBalancingConfig": [{"xds": {}}, {"pick_first": {}}]}, Balancing("pick_first")),
        (
            {"loadBalancingConfig": [{"pick_first": {"shuffleAddressList": True}}]},
            Balancing("pick_first", 2, True),
        ),
        (
            {"loadBalancingConfig": [{"least_request_experimental": {"choiceCount": 3}}]},
            Balancing("least_request", 3),
        ),
        (
            {"loadBalancingConfig": [{"least_request": {"choiceCount": 99}}]},
            Balancing("least_request", 10),
        ),
        ({"loadBalancingPolicy": "ROUND_ROBIN"}, Balancing("round_robin")),
        ({"loadBalancingPolicy": "x", "loadBalancingConfig": [{"pick_first": {}}]}, Balancing("pick_first")),
    ],
)
def test_the_first_known_policy_is_taken(given: dict[str, Any], wanted: Balancing) -> None:
    assert parse(json.dumps(given)).balancing == wanted


def test_the_fields_beside_methods() -> None:
    found = parse(
        json.dumps(
            {
                "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.12345},
                "healthCheckConfig": {"serviceName": "a.B"},
                "connectionScaling": {"maxConnectionsPerSubchannel": 99},
                "somethingNewer": [1],
            }
        )
    )
    assert found.throttling == Throttling(10, 0.123)
    assert found.health_service == "a.B"
    assert found.connections_max == 10
    assert parse('{"healthCheckConfig": {}}').health_service == ""
    assert parse('{"retryThrottling": null}').throttling is None


def without(policy: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in policy.items() if key != name}


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ([], "service config: an object"),
        ({"methodConfig": {}}, "methodConfig: a list"),
        ({"methodConfig": [1]}, "methodConfig[0]: an object"),
        ({"methodConfig": [{"name": [{"method": "C"}]}]}, "methodConfig[0].name[0].service: is required"),
        ({"methodConfig": [{"name": [{}, {}]}]}, "methodConfig[0].name[1]: '/' has a config already"),
        ({"methodConfig": [{"name": [{"service": 1}]}]}, "methodConfig[0].name[0].service: a string"),
        ({"methodConfig": [{"timeout": "1"}]}, "methodConfig[0].timeout: a duration"),
        ({"methodConfig": [{"timeout": "-1s"}]}, "methodConfig[0].timeout: a duration"),
        ({"methodConfig": [{"timeout": "s"}]}, "methodConfig[0].timeout: a duration"),
        ({"methodConfig": [{"timeout": "999999999999s"}]}, "methodConfig[0].timeout: a duration"),
        ({"methodConfig": [{"timeout": 1}]}, "methodConfig[0].timeout: a duration"),
        ({"methodConfig": [{"waitForReady": 1}]}, "methodConfig[0].waitForReady: true or false"),
        (
            {"methodConfig": [{"maxRequestMessageBytes": -1}]},
            "methodConfig[0].maxRequestMessageBytes: a whole",
        ),
        ({"methodConfig": [{"maxResponseMessageBytes": True}]}, "maxResponseMessageBytes: a whole number"),
        ({"methodConfig": [{"retryPolicy": RETRY, "hedgingPolicy": HEDGING}]}, "exclude each other"),
        ({"loadBalancingConfig": [{"xds": {}}]}, "loadBalancingConfig: none of"),
        ({"loadBalancingConfig": [{"a": {}, "b": {}}]}, "loadBalancingConfig[0]: one policy"),
        ({"loadBalancingConfig": [{"least_request": {"choiceCount": 1}}]}, "choiceCount: must be 2 or more"),
        ({"loadBalancingConfig": [{"pick_first": 1}]}, "loadBalancingConfig[0].pick_first: an object"),
        ({"loadBalancingPolicy": "grpclb"}, "loadBalancingPolicy: 'grpclb' is none of"),
        ({"retryThrottling": {"tokenRatio": 1}}, "retryThrottling.maxTokens: is required"),
        ({"retryThrottling": {"maxTokens": 1001, "tokenRatio": 1}}, "maxTokens: must be 1000 or less"),
        ({"retryThrottling": {"maxTokens": 0, "tokenRatio": 1}}, "maxTokens: a number greater than zero"),
        ({"retryThrottling": {"maxTokens": 1, "tokenRatio": 0.0001}}, "tokenRatio: must be 0.001"),
        ({"connectionScaling": {"maxConnectionsPerSubchannel": 0}}, "maxConnectionsPerSubchannel: must be 1"),
        ({"healthCheckConfig": {"serviceName": 1}}, "healthCheckConfig.serviceName: a string"),
    ],
)
def test_a_wrong_config_is_refused_by_field(given: Any, field: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(json.dumps(given))
    assert field in str(error.value)


@pytest.mark.parametrize(
    ("policy", "field"),
    [
        *((without(RETRY, name), f"retryPolicy.{name}: is required") for name in RETRY),
        ({**RETRY, "maxAttempts": 1}, "retryPolicy.maxAttempts: must be 2 or more"),
        ({**RETRY, "maxAttempts": 2.5}, "retryPolicy.maxAttempts: a whole number"),
        ({**RETRY, "initialBackoff": "0s"}, "retryPolicy.initialBackoff: must be greater than zero"),
        ({**RETRY, "maxBackoff": "0.0s"}, "retryPolicy.maxBackoff: must be greater than zero"),
        ({**RETRY, "backoffMultiplier": 0}, "retryPolicy.backoffMultiplier: a number greater than zero"),
        ({**RETRY, "backoffMultiplier": "2"}, "retryPolicy.backoffMultiplier: a number"),
        ({**RETRY, "retryableStatusCodes": []}, "retryPolicy.retryableStatusCodes: must name a status code"),
        ({**RETRY, "retryableStatusCodes": ["GONE"]}, "retryPolicy.retryableStatusCodes[0]: no status code"),
        ({**RETRY, "retryableStatusCodes": [99]}, "retryPolicy.retryableStatusCodes[0]: no status code"),
    ],
)
def test_a_wrong_retry_policy_is_refused_by_field(policy: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as error:
        config(retryPolicy=policy)
    assert field in str(error.value)


@pytest.mark.parametrize("given", ["", "{", "nul", "[" * 100_000])
def test_what_is_no_json_is_refused(given: str) -> None:
    with pytest.raises(ConfigError, match="service config: no JSON"):
        parse(given)
