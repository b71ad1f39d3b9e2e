"""What is done with the calls of a route but where they go: how long they last, what is tried again."""

from __future__ import annotations

from datetime import timedelta

from google.protobuf.any_pb2 import Any as Packed

from envoy.config.route.v3.route_components_pb2 import HedgePolicy, RetryPolicy, RouteAction
from services.registry.domain.resource import GOOGLE, Kind
from services.registry.domain.rules import Hedging, Retries, RouteRule
from services.registry.domain.world import Balancer, Policy

RETRIED = "connect-failure,refused-stream"  # Neither was seen by a handler.
BACKOFF_TIMES = 10  # The longest wait between tries, in shortest ones: as Envoy has it by default.
OTHERS = "envoy.retry_host_predicates.previous_hosts"  # A try goes to an instance that had none yet.
OTHERS_TYPE = f"{GOOGLE}envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
OTHERS_SOUGHT_MAX = 3  # Times that another instance is looked for, as there may be only one.


def action(policy: Policy, rule: RouteRule, kind: Kind) -> RouteAction:
    """Of a route that leads nowhere yet."""
    made = RouteAction(
        timeout=timedelta(0),
        max_stream_duration=RouteAction.MaxStreamDuration(
            grpc_timeout_header_max=timedelta(seconds=rule.timeout_s)
        ),
    )
    if rule.timeout_s:  # Of callers who say nothing; above, of those who ask for more.
        made.max_stream_duration.max_stream_duration.FromTimedelta(timedelta(seconds=rule.timeout_s))
    if rule.retries.attempts:
        made.retry_policy.CopyFrom(_retries(rule.retries))
    if rule.hedging and kind is Kind.ENVOY:
        _hedge(made, rule.hedging)
    if policy.balancer is Balancer.RING_HASH:
        header = RouteAction.HashPolicy.Header(header_name=policy.hash_header)
        made.hash_policy.append(RouteAction.HashPolicy(header=header))
    return made


def _retries(retries: Retries) -> RetryPolicy:
    made = RetryPolicy(retry_on=",".join([RETRIED, *retries.on]), num_retries={"value": retries.attempts})
    if retries.per_try_s:
        made.per_try_timeout.FromTimedelta(timedelta(seconds=retries.per_try_s))
    if retries.backoff_s:
        shortest = timedelta(seconds=retries.backoff_s)
        made.retry_back_off.base_interval.FromTimedelta(shortest)
        made.retry_back_off.max_interval.FromTimedelta(shortest * BACKOFF_TIMES)
    return made


def _hedge(made: RouteAction, hedging: Hedging) -> None:
    """Envoy hedges when a try's time is over, out of the number of retries."""
    made.hedge_policy.CopyFrom(HedgePolicy(hedge_on_per_try_timeout=True))
    retry = made.retry_policy
    retry.retry_on = retry.retry_on or RETRIED
    retry.num_retries.value = max(retry.num_retries.value, hedging.more)
    retry.per_try_timeout.FromTimedelta(timedelta(seconds=hedging.after_s))
    others = RetryPolicy.RetryHostPredicate(name=OTHERS, typed_config=Packed(type_url=OTHERS_TYPE))
    retry.retry_host_predicate.append(others)
    retry.host_selection_retry_max_attempts = OTHERS_SOUGHT_MAX
