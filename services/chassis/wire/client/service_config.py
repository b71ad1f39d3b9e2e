"""How calls are made, by method: gRPC's service config in JSON (gRFC A2, A6, A17, A24, A48, A105).

Parsed whole or refused whole: `ConfigError` names the field and the rule it breaks. Fields that are not known
are passed over, as gRPC does, so that a newer config may reach an older client.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import grpc

from services.chassis.wire.client import fields
from services.chassis.wire.client.fields import ConfigError, Fields

ATTEMPTS_MAX = 5  # A config may ask for more, and gets this many (A6, "Limits on Retries and Hedges").
TOKENS_MAX = 1_000  # The largest bucket that gRPC's own implementations take.
CHOICES_MIN, CHOICES_MAX = 2, 10  # Of least_request; more are treated as this many (A48).
CONNECTIONS_MAX = 10  # To one endpoint; more are treated as this many (A105).

PICK_FIRST, ROUND_ROBIN, LEAST_REQUEST = "pick_first", "round_robin", "least_request"
_POLICIES = {
    PICK_FIRST: PICK_FIRST,
    ROUND_ROBIN: ROUND_ROBIN,
    LEAST_REQUEST: LEAST_REQUEST,
    "least_request_experimental": LEAST_REQUEST,  # Its name in A48.
}


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """One attempt after another (A6)."""

    attempts_max: int
    initial_backoff_s: float
    backoff_s_max: float
    multiplier: float
    codes: frozenset[grpc.StatusCode]  # After these the call is tried again.

    def backoff_s(self, retry: int, jitter: float) -> float:
        """The wait before the retry of that number, counted from 0; `jitter` is from 0.8 to 1.2."""
        return min(self.initial_backoff_s * self.multiplier**retry, self.backoff_s_max) * jitter


@dataclass(frozen=True, slots=True)
class HedgingPolicy:
    """Several attempts at once, of which the first answer wins (A6)."""

    attempts_max: int
    delay_s: float
    codes: frozenset[grpc.StatusCode]  # After these the other attempts may still succeed.


@dataclass(frozen=True, slots=True)
class MethodConfig:
    """What holds for calls of one method; None where the config is silent."""

    timeout_s: float | None = None
    wait_for_ready: bool | None = None
    retry: RetryPolicy | None = None
    hedging: HedgingPolicy | None = None
    request_bytes_max: int | None = None
    response_bytes_max: int | None = None


NOTHING = MethodConfig()


@dataclass(frozen=True, slots=True)
class Throttling:
    """The bucket that stops retries while too many calls fail (A6)."""

    tokens_max: float
    token_ratio: float


@dataclass(frozen=True, slots=True)
class Balancing:
    """Which endpoint gets the next call."""

    policy: str = PICK_FIRST
    choices: int = CHOICES_MIN  # Of least_request: so many are compared for one call.
    shuffle: bool = False  # Of pick_first: every client tries the endpoints in an order of its own (A62).


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """A whole config; as it is by default, it changes nothing."""

    balancing: Balancing = Balancing()
    throttling: Throttling | None = None
    health_service: str | None = None  # Asked of each endpoint's grpc.health.v1 (A17); None: not asked.
    connections_max: int = 1  # To one endpoint; the next is opened when all streams are taken (A105).
    methods: Mapping[tuple[str, str], MethodConfig] = field(default_factory=dict)

    def method(self, path: str) -> MethodConfig:
        """What holds for `/service/Method`: its own config, else its service's, else the default (A2)."""
        service, _, name = path.removeprefix("/").rpartition("/")
        for key in ((service, name), (service, ""), ("", "")):
            if (found := self.methods.get(key)) is not None:
                return found
        return NOTHING


def parse(config: str | bytes) -> ServiceConfig:
    """Raises ConfigError."""
    try:
        root = Fields("", json.loads(config))
    except (ValueError, RecursionError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"service config: no JSON ({error})") from error
    return ServiceConfig(
        balancing=_balancing(root),
        throttling=root.inside("retryThrottling", _throttling),
        health_service=root.inside("healthCheckConfig", _health_service),
        connections_max=root.inside("connectionScaling", _connections) or 1,
        methods=_methods(root),
    )


def _balancing(root: Fields) -> Balancing:
    """The first known policy of the list (A24), else the older field's."""
    choices = root.each("loadBalancingConfig")
    for choice in choices:
        if len(choice.names()) != 1:
            raise ConfigError(f"{choice.where}: one policy is wanted in each entry")
        [name] = choice.names()
        if name in _POLICIES:
            return choice.inside(name, partial(_policy, name)) or Balancing(_POLICIES[name])
    if choices:
        raise ConfigError(f"loadBalancingConfig: none of {sorted(_POLICIES)} is named")
    older = root.get("loadBalancingPolicy", fields.text) or PICK_FIRST
    if older.lower() not in _POLICIES:
        raise ConfigError(f"loadBalancingPolicy: {older!r} is none of {sorted(_POLICIES)}")
    return Balancing(_POLICIES[older.lower()])


def _policy(name: str, given: Fields) -> Balancing:
    choices = given.get("choiceCount", fields.at_least(CHOICES_MIN)) or CHOICES_MIN
    shuffle = given.get("shuffleAddressList", fields.truth) or False
    return Balancing(_POLICIES[name], min(choices, CHOICES_MAX), shuffle)


def _throttling(given: Fields) -> Throttling:
    tokens = given.need("maxTokens", fields.number)
    if tokens > TOKENS_MAX:
        raise ConfigError(f"{given.at('maxTokens')}: must be {TOKENS_MAX} or less")
    ratio = int(given.need("tokenRatio", fields.number) * 1_000) / 1_000  # Three places count (A6).
    if ratio <= 0:
        raise ConfigError(f"{given.at('tokenRatio')}: must be 0.001 or more")
    return Throttling(tokens, ratio)


def _health_service(given: Fields) -> str:
    """Absent, it is the server as a whole."""
    return given.get("serviceName", fields.text) or ""


def _connections(given: Fields) -> int:
    wanted = given.get("maxConnectionsPerSubchannel", fields.at_least(1))
    return min(wanted or 1, CONNECTIONS_MAX)


def _methods(root: Fields) -> dict[tuple[str, str], MethodConfig]:
    found: dict[tuple[str, str], MethodConfig] = {}
    for entry in root.each("methodConfig"):
        config = _method(entry)
        for name in entry.each("name"):
            key = (name.get("service", fields.text) or "", name.get("method", fields.text) or "")
            if key[1] and not key[0]:
                raise ConfigError(f"{name.at('service')}: is required beside a method")
            if key in found:
                raise ConfigError(f"{name.where}: {'/'.join(key)!r} has a config already")
            found[key] = config
    return found


def _method(entry: Fields) -> MethodConfig:
    if entry.holds("retryPolicy") and entry.holds("hedgingPolicy"):
        raise ConfigError(f"{entry.where}: retryPolicy and hedgingPolicy exclude each other")
    return MethodConfig(
        timeout_s=entry.get("timeout", fields.duration),
        wait_for_ready=entry.get("waitForReady", fields.truth),
        retry=entry.inside("retryPolicy", _retry),
        hedging=entry.inside("hedgingPolicy", _hedging),
        request_bytes_max=entry.get("maxRequestMessageBytes", fields.whole),
        response_bytes_max=entry.get("maxResponseMessageBytes", fields.whole),
    )


def _attempts(given: Fields) -> int:
    return min(given.need("maxAttempts", fields.at_least(2)), ATTEMPTS_MAX)


def _retry(given: Fields) -> RetryPolicy:
    return RetryPolicy(
        attempts_max=_attempts(given),
        initial_backoff_s=given.need("initialBackoff", fields.delay),
        backoff_s_max=given.need("maxBackoff", fields.delay),
        multiplier=given.need("backoffMultiplier", fields.number),
        codes=given.need("retryableStatusCodes", fields.some_codes),
    )


def _hedging(given: Fields) -> HedgingPolicy:
    return HedgingPolicy(
        attempts_max=_attempts(given),
        delay_s=given.get("hedgingDelay", fields.duration) or 0.0,
        codes=given.get("nonFatalStatusCodes", fields.codes) or frozenset(),
    )
