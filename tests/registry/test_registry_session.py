"""A client that is told by either way ends with what there is, is told nothing twice, and is never misled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings, strategies as st

from envoy.config.route.v3.route_pb2 import RouteConfiguration
from services.registry.domain.resource import CDS, EDS, LDS, ORDER, RDS, Kind, View
from services.registry.domain.session import Answer, Asked, Delta, Session, StateOfTheWorld
from services.registry.domain.snapshot import snapshot
from services.registry.domain.world import Endpoint, Policy, world
from tests.registry.worlds import clusters_of, worlds

LISTENER = "127.0.0.1:8081"
NEEDS = {CDS: EDS, LDS: RDS}
EMPTY: View = {each: {} for each in ORDER}
FEW = settings(max_examples=20, deadline=None)


@dataclass
class Client:
    """An Envoy: takes all clusters and listeners, and of the rest what those need."""

    session: Session
    delta: bool
    has: dict[str, dict[str, str]] = field(default_factory=lambda: {each: {} for each in ORDER})
    bodies: dict[str, bytes] = field(default_factory=dict)  # Of routes.
    wants: dict[str, set[str]] = field(default_factory=lambda: {EDS: set(), RDS: set()})
    answers: int = 0

    def begin(self, versions: dict[str, str]) -> None:
        """Subscribes, as at the beginning of a stream; `versions` are what it was last told of each type."""
        for type_url in ORDER:
            names = frozenset(self.wants.get(type_url, ()))
            had = self.has[type_url] if self.delta else {}
            if type_url in NEEDS or names:
                version = "" if self.delta else versions.get(type_url, "")
                self.session.hear(Asked(type_url, names, version=version, versions=had))

    def take(self, view: View, refuse: Callable[[Answer], bool] = lambda _: False) -> list[Answer]:
        """All that is due, until nothing is."""
        taken: list[Answer] = []
        while answers := list(self.session.due(view)):
            for answer in answers:
                taken.append(answer)
                self._apply(answer, refuse(answer))
                assert len(taken) < 100, "it never ends"
        return taken

    def _apply(self, answer: Answer, refused: bool) -> None:
        self.answers += 1
        word = Asked(answer.type_url, nonce=answer.nonce, version=answer.version)
        if refused:
            names = frozenset() if self.delta else frozenset(self.wants.get(answer.type_url, ()))
            self.session.hear(replace(word, names=names, error="no"))
            return
        has = self.has[answer.type_url]
        if not self.delta and answer.type_url in NEEDS:
            has.clear()
        has.update({each.name: each.version for each in answer.resources})
        for name in answer.gone:
            has.pop(name, None)
        if answer.type_url == RDS:
            self.bodies.update({each.name: each.body for each in answer.resources})
        names = frozenset() if self.delta else frozenset(self.wants.get(answer.type_url, ()))
        self.session.hear(replace(word, names=names))
        if needed := NEEDS.get(answer.type_url):
            self._want(needed, set(has))

    def _want(self, type_url: str, names: set[str]) -> None:
        """What a cluster or listener needs is asked for; what none needs any more is thrown away."""
        before = self.wants[type_url]
        self.wants[type_url] = names
        for name in before - names:
            self.has[type_url].pop(name, None)
        if before == names:
            return
        if self.delta:
            asked = Asked(type_url, frozenset(names - before), frozenset(before - names))
        else:
            asked = Asked(type_url, frozenset(names), nonce="" if type_url not in self.session.types else "0")
        self.session.hear(asked)

    def routed(self) -> set[str]:
        found: set[str] = set()
        for name in self.has[RDS]:
            found |= clusters_of(RouteConfiguration.FromString(self.bodies[name]))
        return found


def client(delta: bool) -> Client:
    return Client(Delta() if delta else StateOfTheWorld(), delta)


def offered(view: View) -> dict[str, dict[str, str]]:
    return {each: {name: found.version for name, found in view[each].items()} for each in ORDER}


@pytest.mark.parametrize("delta", [True, False], ids=["delta", "sotw"])
@FEW
@given(seen=st.lists(worlds, min_size=1, max_size=5))
def test_a_client_ends_with_what_there_is(delta: bool, seen) -> None:  # type: ignore[no-untyped-def]
    envoy = client(delta)
    envoy.begin({})
    for each in seen:
        view = snapshot(each, LISTENER).views[Kind.ENVOY]
        envoy.take(view)
        assert envoy.has == offered(view)
        assert envoy.take(view) == [], "it is told nothing twice"


@FEW
@given(seen=st.lists(worlds, min_size=1, max_size=5))
def test_a_client_never_has_a_route_to_a_cluster_that_it_lacks(seen) -> None:  # type: ignore[no-untyped-def]
    envoy = client(delta=True)
    envoy.begin({})
    for each in seen:
        view = snapshot(each, LISTENER).views[Kind.ENVOY]
        while answers := list(envoy.session.due(view)):
            for answer in answers:
                envoy._apply(answer, refused=False)
                assert envoy.routed() <= set(envoy.has[CDS])


@pytest.mark.parametrize("delta", [True, False], ids=["delta", "sotw"])
@FEW
@given(seen=worlds, after=worlds)
def test_a_stream_that_begins_anew_is_told_what_changed_meanwhile(delta: bool, seen, after) -> None:  # type: ignore[no-untyped-def]
    envoy = client(delta)
    envoy.begin({})
    view = snapshot(seen, LISTENER).views[Kind.ENVOY]
    versions = {answer.type_url: answer.version for answer in envoy.take(view)}
    envoy.session = Delta() if delta else StateOfTheWorld()
    envoy.begin(versions)
    assert not any(answer.resources or answer.gone for answer in envoy.take(view)), "nothing changed"
    view = snapshot(after, LISTENER).views[Kind.ENVOY]
    envoy.take(view)
    assert envoy.has == offered(view)


@pytest.mark.parametrize("delta", [True, False], ids=["delta", "sotw"])
@FEW
@given(seen=st.lists(worlds, min_size=2, max_size=4), at=st.sets(st.integers(0, 12)))
def test_what_is_refused_is_not_sent_again_until_it_changes(delta: bool, seen, at) -> None:  # type: ignore[no-untyped-def]
    envoy = client(delta)
    envoy.begin({})
    for each in seen:
        view = snapshot(each, LISTENER).views[Kind.ENVOY]
        envoy.take(view, lambda _: envoy.answers in at)
        assert envoy.take(view) == []
    view = snapshot(seen[0], LISTENER).views[Kind.ENVOY]
    envoy.take(view, lambda _: True)
    assert envoy.take(view) == []


def test_a_word_on_an_older_answer_is_no_word_on_the_last() -> None:
    session = Delta()
    session.hear(Asked(CDS))
    [answer] = session.due(EMPTY)
    assert session.hear(Asked(CDS, nonce="99", error="no")) is None
    verdict = session.hear(Asked(CDS, nonce=answer.nonce, error="no"))
    assert verdict is not None
    assert (verdict.version, verdict.message) == (answer.version, "no")


def test_endpoints_follow_a_cluster_that_changed_though_they_did_not() -> None:
    envoy = client(delta=True)
    envoy.begin({})
    seen = world(1, {"cart": [Endpoint("a", "10.0.0.1", 1)]}, {})
    envoy.take(snapshot(seen).views[Kind.ENVOY])
    seen = world(2, {"cart": [Endpoint("a", "10.0.0.1", 1)]}, {"cart": Policy(active_checks=True)})
    told = envoy.take(snapshot(seen).views[Kind.ENVOY])
    assert [(answer.type_url, [each.name for each in answer.resources]) for answer in told] == [
        (CDS, ["cart"]),
        (EDS, ["cart"]),
    ]


def test_a_type_that_is_not_served_is_not_answered() -> None:
    session = StateOfTheWorld()
    session.hear(Asked("type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"))
    assert list(session.due(EMPTY)) == []


def test_who_asks_for_what_there_is_not_is_told_so() -> None:
    session = Delta()
    session.hear(Asked(EDS, frozenset({"nobody"})))
    [answer] = session.due(EMPTY)
    assert answer.gone == ("nobody",)
    session.hear(Asked(EDS, nonce=answer.nonce))
    assert list(session.due(EMPTY)) == []
