"""Which headers a call must have, as xDS says it."""

from __future__ import annotations

import re

from envoy.config.route.v3.route_components_pb2 import HeaderMatcher
from envoy.type.matcher.v3.regex_pb2 import RegexMatcher
from envoy.type.matcher.v3.string_pb2 import StringMatcher
from services.registry.domain.rules import HeaderRule


def exactly(name: str, value: str) -> HeaderMatcher:
    return HeaderMatcher(name=name, string_match=StringMatcher(exact=value))


def header(rule: HeaderRule) -> HeaderMatcher:
    if rule.one_of:
        any_of = RegexMatcher(regex="|".join(map(re.escape, rule.one_of)))  # Of the whole value.
        return HeaderMatcher(name=rule.header, string_match=StringMatcher(safe_regex=any_of))
    if rule.prefix:
        return HeaderMatcher(name=rule.header, string_match=StringMatcher(prefix=rule.value))
    return exactly(rule.header, rule.value)
