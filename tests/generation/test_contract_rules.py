"""Generation refuses contracts that compile but must not stand."""

from __future__ import annotations

import pytest

from generation import rules
from generation.protoc import Refused
from tests.generation.planting import Plant

MESSAGES = """
message Ask { string user_id = 1; int32 number = 2; repeated string names = 3; }
message Answer { string text = 1; }
"""


def service(*methods: str) -> str:
    rpcs = "".join(
        f"rpc Call{number}(Ask) returns (Answer) {{ {options} }}\n" for number, options in enumerate(methods)
    )
    return f"{MESSAGES} service PlantedService {{ {rpcs} }}"


def access(rule: str) -> str:
    return f"option (weft.options.v1.access) = {{ {rule} }};"


PUBLIC = access("public: true")
QUIET = "option idempotency_level = NO_SIDE_EFFECTS;"
CACHE = "option (weft.options.v1.edge) = { cache: {seconds: 9} };"
SUNSET = 'option (weft.options.v1.edge) = { sunset: "2027-01-31" deprecated_since: "2026-01-31" };'


def get(path: str) -> str:
    return f'option (google.api.http) = {{ get: "{path}" }};'


REFUSED = {
    "a method without access": (service(""), "Call0: no rule of access"),
    "access that names no rule": (service(access('own_field: "user_id"')), "Call0: no rule of access"),
    "access that says public: false": (service(access("public: false")), "Call0: no rule of access"),
    "internal with a route": (
        service(access('internal: true callers: "*"') + get("/v1/a")),
        "has a REST route",
    ),
    "internal without callers": (service(access("internal: true")), "internal, yet no callers"),
    "public with callers": (service(access('public: true callers: "*"')), "public, yet it has callers"),
    "a caller that is no service": (
        service(access('permission: "a" callers: ["planted", "ghost"]')),
        "callers has 'ghost', which is no service",
    ),
    "every service and one more": (
        service(access('permission: "a" callers: ["*", "planted"]')),
        "callers has '*' beside others",
    ),
    "own_field that is no field": (
        service(access('permission: "a" own_field: "usr_id"')),
        "'usr_id' is no string field",
    ),
    "own_field that is a number": (
        service(access('permission: "a" own_field: "number"')),
        "'number' is no string field",
    ),
    "own_field that is a list": (
        service(access('permission: "a" own_field: "names"')),
        "'names' is no string field",
    ),
    "own_field without permission": (
        service(access('signed_in: true own_field: "user_id"')),
        "stands beside `signed_in`",
    ),
    "a cache of what is not public": (
        service(access("signed_in: true") + QUIET + CACHE),
        "cached at the edge, yet not public",
    ),
    "a cache of what has effects": (service(PUBLIC + CACHE), "cached at the edge, yet not NO_SIDE_EFFECTS"),
    "sunset without deprecated": (service(PUBLIC + SUNSET), "sunset without"),
    "a sunset that is no date": (
        service(PUBLIC + "option deprecated = true;" + SUNSET.replace("2027-01-31", "soon")),
        "sunset 'soon' is no date",
    ),
    "deprecated_since without sunset": (
        service(PUBLIC + 'option (weft.options.v1.edge) = { deprecated_since: "2026-01-31" };'),
        "deprecated_since without sunset",
    ),
    "the same route twice": (
        service(PUBLIC + get("/v1/a/{user_id}"), PUBLIC + get("/v1/a/{number}")),
        "Call1: GET /v1/a/{number} is weft.planted.v1.PlantedService.Call0's route already",
    ),
    "a route over no field": (service(PUBLIC + get("/v1/a/{absent}")), "names 'absent', no field"),
}


@pytest.mark.parametrize(("body", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_it_is_refused_by_name(plant: Plant, body: str, said: str) -> None:
    with pytest.raises(Refused) as refused:
        rules.check(plant(body))
    assert said in str(refused.value)
    assert len(str(refused.value).splitlines()) == 2, "one rule is broken, one line says so"


EVENTS = {
    "an event without the option": ("message Made { string id = 1; }", "without option"),
    "an event without a key": (
        "message Made { option (weft.options.v1.event) = {}; string id = 1; }",
        "no key",
    ),
    "an event whose key is no field": (
        'message Made { option (weft.options.v1.event) = {key: "key"}; string id = 1; }',
        "key 'key' is none of its string fields",
    ),
    "an event with personal data": (
        """message Made { option (weft.options.v1.event) = {key: "id"}; string id = 1;
        string email = 2 [(weft.options.v1.personal) = true]; }""",
        "Made: email is personal",
    ),
    "an event with a secret inside": (
        """message Made { option (weft.options.v1.event) = {key: "id"}; string id = 1;
        message Part { string code = 1 [(weft.options.v1.secret) = true]; } repeated Part parts = 2; }""",
        "Made: parts.code is secret",
    ),
}


@pytest.mark.parametrize(("events", "said"), EVENTS.values(), ids=EVENTS.keys())
def test_it_is_refused_of_events(plant: Plant, events: str, said: str) -> None:
    with pytest.raises(Refused, match=said):
        rules.check(plant("", events))


def test_an_event_outside_events_proto_keeps_the_same_rules(plant: Plant) -> None:
    body = EVENTS["an event with personal data"][0]
    with pytest.raises(Refused, match="email is personal"):
        rules.check(plant(body))


def test_every_broken_rule_is_named_at_once(plant: Plant) -> None:
    with pytest.raises(Refused) as refused:
        rules.check(plant(service("", PUBLIC + SUNSET), EVENTS["an event without the option"][0]))
    assert len(str(refused.value).splitlines()) == 4


def test_a_contract_that_keeps_them_passes(plant: Plant) -> None:
    kept = service(
        PUBLIC + QUIET + CACHE + get("/v1/a"),
        access('permission: "a.b" own_field: "user_id"') + get("/v1/a/{user_id}"),
        access('internal: true callers: "*"'),
        PUBLIC + "option deprecated = true;" + SUNSET + get("/v1/a/{user_id}:late"),
    )
    rules.check(plant(kept, 'message Made { option (weft.options.v1.event) = {key: "id"}; string id = 1; }'))
