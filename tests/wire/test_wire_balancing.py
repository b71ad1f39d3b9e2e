"""Balancers follow the states of endpoints by gRPC's rules, and pick what can take a call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from grpc import ChannelConnectivity as State

from services.chassis.wire.client.balancing import Balancer, LeastRequest, PickFirst, RoundRobin, balancer
from services.chassis.wire.client.endpoints import ENDPOINTS_MAX, Fixed, Live, Place, place
from services.chassis.wire.client.service_config import Balancing

IDLE, CONNECTING, READY, FAILED = State.IDLE, State.CONNECTING, State.READY, State.TRANSIENT_FAILURE


class Endpoint:
    """An endpoint whose states the test decides."""

    def __init__(self, address: str, load: int = 0) -> None:
        self.address, self.load, self.state = address, load, IDLE
        self.asked = 0

    def connect(self) -> None:
        if self.state is IDLE:
            self.state = CONNECTING
            self.asked += 1

    def disconnect(self) -> None:
        self.state = IDLE

    def begin(self, waiting: object) -> None:
        """Calls are not made here."""

    def become(self, state: State, told: Balancer) -> None:
        self.state = state
        told.changed(self)


def endpoints(count: int) -> list[Endpoint]:
    return [Endpoint(str(number)) for number in range(count)]


def started(policy: Balancer, targets: Sequence[Endpoint]) -> Balancer:
    policy.update(targets)
    policy.wake()
    return policy


def states(targets: Sequence[Endpoint]) -> list[State]:
    return [target.state for target in targets]


@pytest.mark.parametrize("policy", [PickFirst(), RoundRobin(), LeastRequest()])
def test_nothing_is_connected_before_somebody_calls(policy: Balancer) -> None:
    targets = endpoints(2)
    policy.update(targets)
    assert (policy.state, states(targets)) == (IDLE, [IDLE, IDLE])
    assert policy.pick(()) is None


@pytest.mark.parametrize("policy", [PickFirst(), RoundRobin(), LeastRequest()])
def test_without_endpoints_calls_fail(policy: Balancer) -> None:
    policy.update([])
    assert policy.state is FAILED


def test_pick_first_tries_in_order_and_keeps_the_first_that_answers() -> None:
    targets = endpoints(3)
    policy = started(PickFirst(), targets)
    assert states(targets) == [CONNECTING, IDLE, IDLE]
    targets[0].become(FAILED, policy)
    assert (policy.state, states(targets)) == (CONNECTING, [FAILED, CONNECTING, IDLE])
    targets[1].become(READY, policy)
    assert (policy.state, policy.pick(())) == (READY, targets[1])
    assert targets[0].state is IDLE


def test_pick_first_stays_failed_until_one_is_ready() -> None:
    targets = endpoints(2)
    policy = started(PickFirst(), targets)
    targets[0].become(FAILED, policy)
    targets[1].become(FAILED, policy)
    assert policy.state is FAILED
    targets[0].become(IDLE, policy)
    assert (policy.state, targets[0].state, targets[0].asked) == (FAILED, CONNECTING, 2)
    targets[0].become(READY, policy)
    assert (policy.state, policy.pick(())) == (READY, targets[0])


def test_pick_first_is_idle_after_its_connection_broke() -> None:
    targets = endpoints(2)
    policy = started(PickFirst(), targets)
    targets[0].become(READY, policy)
    targets[0].become(IDLE, policy)
    assert (policy.state, policy.pick(()), states(targets)) == (IDLE, None, [IDLE, IDLE])
    policy.wake()
    assert states(targets) == [CONNECTING, IDLE]


def test_pick_first_keeps_its_endpoint_while_it_is_listed() -> None:
    targets = endpoints(3)
    policy = started(PickFirst(), targets)
    targets[0].become(READY, policy)
    policy.update([targets[2], targets[0]])
    assert policy.pick(()) is targets[0]
    policy.update([targets[1]])
    assert (policy.pick(()), policy.state, targets[1].state) == (None, CONNECTING, CONNECTING)


def test_pick_first_may_shuffle() -> None:
    first = set()
    for _ in range(64):
        targets = endpoints(3)
        started(PickFirst(shuffle=True), targets)
        first.add(next(target.address for target in targets if target.state is CONNECTING))
    assert first == {"0", "1", "2"}


def test_round_robin_takes_turns_among_those_that_are_ready() -> None:
    targets = endpoints(3)
    policy = started(RoundRobin(), targets)
    assert states(targets) == [CONNECTING] * 3
    targets[0].become(READY, policy)
    targets[2].become(READY, policy)
    assert Counter(policy.pick(()) for _ in range(10)) == {targets[0]: 5, targets[2]: 5}
    assert {policy.pick([targets[0]]) for _ in range(4)} == {targets[2]}
    assert policy.pick(targets) in targets


def test_round_robin_reconnects_what_broke() -> None:
    targets = endpoints(2)
    policy = started(RoundRobin(), targets)
    for target in targets:
        target.become(READY, policy)
    targets[0].become(IDLE, policy)
    assert (targets[0].state, policy.state) == (CONNECTING, READY)
    assert {policy.pick(()) for _ in range(4)} == {targets[1]}


def test_round_robin_fails_when_all_failed_and_until_one_is_ready() -> None:
    targets = endpoints(2)
    policy = started(RoundRobin(), targets)
    targets[0].become(FAILED, policy)
    assert policy.state is CONNECTING
    targets[1].become(FAILED, policy)
    assert policy.state is FAILED
    targets[0].become(IDLE, policy)
    assert (policy.state, targets[0].state) == (FAILED, CONNECTING)
    targets[0].become(READY, policy)
    assert policy.state is READY


def test_new_endpoints_are_connected_and_old_ones_not_picked() -> None:
    targets = endpoints(3)
    policy = started(RoundRobin(), targets[:2])
    targets[0].become(READY, policy)
    policy.update(targets[1:])
    assert (targets[2].state, policy.pick(()), policy.state) == (CONNECTING, None, CONNECTING)


def test_least_request_prefers_the_less_busy() -> None:
    targets = endpoints(2)
    policy = started(LeastRequest(), targets)
    for target in targets:
        target.become(READY, policy)
    targets[0].load = 10
    picked = Counter(policy.pick(()) for _ in range(1_000))
    assert 600 < picked[targets[1]] < 900  # 3 of 4: the busier one only when drawn twice.


def test_more_choices_find_the_idle_one_more_often() -> None:
    targets = endpoints(10)
    policy = started(LeastRequest(choices=10), targets)
    for target in targets:
        target.load = 5
        target.become(READY, policy)
    targets[3].load = 0
    picked = Counter(policy.pick(()) for _ in range(1_000))
    assert picked[targets[3]] > 500


def test_a_hedge_goes_elsewhere_when_it_can() -> None:
    targets = endpoints(2)
    policy = started(LeastRequest(), targets)
    for target in targets:
        target.become(READY, policy)
    assert {policy.pick([targets[0]]) for _ in range(20)} == {targets[1]}
    assert policy.pick(targets) in targets


@pytest.mark.parametrize(
    ("chosen", "kind"),
    [
        (Balancing(), PickFirst),
        (Balancing("round_robin"), RoundRobin),
        (Balancing("least_request", 3), LeastRequest),
    ],
)
def test_the_config_names_the_policy(chosen: Balancing, kind: type) -> None:
    assert isinstance(balancer(chosen), kind)


@pytest.mark.parametrize(
    ("address", "wanted"),
    [
        ("a.test:1", Place("a.test", 1)),
        ("[::1]:443", Place("::1", 443)),
        ("dns:///a.test:80", Place("a.test", 80)),
        ("ipv4:127.0.0.1:80", Place("127.0.0.1", 80)),
        ("ipv6:[::1]:80", Place("::1", 80)),
        ("unix:relative", Place("", 0, "relative")),
        ("unix:///run/a", Place("", 0, "/run/a")),
    ],
)
def test_addresses_are_those_of_grpcs_naming(address: str, wanted: Place) -> None:
    assert place(address) == wanted


@pytest.mark.parametrize("address", ["", "a", "a:", ":1", "a:0", "a:65536", "a:-1", "unix:", "a:1x"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="is wanted"):
        Fixed(address)


def test_listeners_hear_the_addresses_now_and_later_until_they_stop() -> None:
    live, heard = Live(["a:1"]), []
    stop = live.follow(heard.append)
    live.update(["b:1", "a:1", "b:1"])
    stop()
    live.update([])
    assert heard == [("a:1",), ("b:1", "a:1")]


def test_endless_endpoints_are_refused() -> None:
    with pytest.raises(ValueError, match="at most"):
        Live([f"a:{port + 1}" for port in range(ENDPOINTS_MAX + 1)])
