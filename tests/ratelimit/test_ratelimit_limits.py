"""Limits as resources, through gRPC."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from services.chassis.testing import broken_fields, until
from tests.ratelimit.edge import Edge, refused
from weft.identity.v1.events_pb2 import UserDeleted
from weft.ratelimit.v1 import ratelimit_pb2 as pb


async def test_a_limit_is_made_once_found_changed_and_deleted(edge: Edge) -> None:
    given = {"match": {"plans": ["b", "a"]}, "shadow": True, "priority": 7, "burst": 5}
    made = await edge.make("once", "weft.once.", end_time=Timestamp(seconds=4_000_000_000), **given)
    found = pb.GetRateLimitRequest(rate_limit_id=made.rate_limit_id)
    assert (await edge.stub.GetRateLimit(found, metadata=edge.lab.bearer())).rate_limit == made
    assert (made.settings.failure, list(made.settings.match.plans)) == (pb.FAILURE_RULE_OPEN, ["a", "b"])
    again = pb.CreateRateLimitRequest(rate_limit_id=made.rate_limit_id, settings=made.settings)
    bearer = edge.lab.bearer()
    assert (await edge.stub.CreateRateLimit(again, metadata=bearer)).rate_limit == made
    again.settings.requests = 4
    other = edge.stub.CreateRateLimit(again, metadata=bearer)
    assert await refused(other) == (grpc.StatusCode.ALREADY_EXISTS, "RATE_LIMIT_ID_REUSED")
    change = pb.UpdateRateLimitRequest(
        rate_limit_id=made.rate_limit_id, settings=again.settings, etag=made.etag
    )
    changed = (await edge.stub.UpdateRateLimit(change, metadata=bearer)).rate_limit
    assert (changed.settings.requests, changed.etag != made.etag) == (4, True)
    assert (await edge.stub.UpdateRateLimit(change, metadata=bearer)).rate_limit == changed
    change.settings.requests = 5
    late = edge.stub.UpdateRateLimit(change, metadata=bearer)
    assert await refused(late) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    gone = pb.DeleteRateLimitRequest(rate_limit_id=made.rate_limit_id, etag=changed.etag)
    await edge.stub.DeleteRateLimit(gone, metadata=bearer)
    unknown = edge.stub.GetRateLimit(found, metadata=bearer)
    assert await refused(unknown) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_RATE_LIMIT")
    named = ["RateLimitCreated", "RateLimitUpdated", "RateLimitDeleted"]
    assert await edge.announced(made.rate_limit_id) == named


async def test_two_limits_have_two_names(edge: Edge) -> None:
    await edge.make("name-one", "weft.names.")
    two = await edge.make("name-two", "weft.names.")
    taken = (grpc.StatusCode.ALREADY_EXISTS, "RATE_LIMIT_NAME_TAKEN")
    assert await refused(edge.make("name-one", "weft.names.")) == taken
    change = pb.UpdateRateLimitRequest(rate_limit_id=two.rate_limit_id, settings=two.settings)
    change.settings.name = "name-one"
    assert await refused(edge.stub.UpdateRateLimit(change, metadata=edge.lab.bearer())) == taken


@pytest.mark.parametrize(
    ("field", "settings"),
    [
        ("settings.name", {"name": "No Name"}),
        ("settings.requests", {"requests": 0}),
        ("settings.unit", {"unit": 0}),
        ("settings.key", {"key": 0}),
        ("settings.key", {"key": 99}),
        ("settings.match.prefix", {"prefix": "order."}),
        ("settings.header", {"key": pb.KEY_KIND_HEADER, "header": "cookie"}),
        ("settings.header", {"key": pb.KEY_KIND_HEADER, "header": "x-not-told"}),
        ("settings.failure", {"failure": pb.FAILURE_RULE_CLOSED}),
        ("burst", {"unit": pb.UNIT_DAY, "burst": 3}),
        ("requests", {"requests": 1_000_001}),
        ("header", {"key": pb.KEY_KIND_HEADER}),
        ("end_time", {"start_time": Timestamp(seconds=9), "end_time": Timestamp(seconds=9)}),
    ],
)
async def test_settings_that_cannot_be_are_refused_by_their_field(
    edge: Edge, field: str, settings: dict[str, Any]
) -> None:
    given = {"name": "wrong", "prefix": "weft.wrong.", **settings}
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await edge.make(given.pop("name"), given.pop("prefix"), **given)
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    [(path, said)] = broken_fields(error.value).items()
    assert path == field or (path == "settings" and said.startswith(f"{field}: "))


async def test_limits_are_listed_by_name_a_page_at_a_time(edge: Edge) -> None:
    for name in ("listed-c", "listed-a", "listed-b"):
        await edge.make(name, "weft.listed.", shadow=name == "listed-b")
    asked = pb.ListRateLimitsRequest(page_size=2, filter='prefix = "weft.listed."')
    first = await edge.stub.ListRateLimits(asked, metadata=edge.lab.bearer())
    asked.page_token = first.next_page_token
    rest = await edge.stub.ListRateLimits(asked, metadata=edge.lab.bearer())
    assert [[each.settings.name for each in page.rate_limits] for page in (first, rest)] == [
        ["listed-a", "listed-b"],
        ["listed-c"],
    ]
    assert rest.next_page_token == ""
    silent = pb.ListRateLimitsRequest(filter='shadow = true AND name:"listed*"')
    found = (await edge.stub.ListRateLimits(silent, metadata=edge.lab.bearer())).rate_limits
    assert [each.settings.name for each in found] == ["listed-b"]


async def test_each_verb_needs_its_permission(edge: Edge) -> None:
    made = await edge.make("guarded", "weft.guarded.")
    reader = edge.lab.bearer(scope="ratelimit.limits.read")
    await edge.stub.ListRateLimits(pb.ListRateLimitsRequest(), metadata=reader)
    denied = (grpc.StatusCode.PERMISSION_DENIED, "NOT_PERMITTED")
    gone = pb.DeleteRateLimitRequest(rate_limit_id=made.rate_limit_id)
    usage = pb.ListUsageRequest(rate_limit_id=made.rate_limit_id)
    reset = pb.ResetUsageRequest(rate_limit_id=made.rate_limit_id)
    assert await refused(edge.stub.DeleteRateLimit(gone, metadata=reader)) == denied
    assert await refused(edge.stub.ListUsage(usage, metadata=reader)) == denied
    assert await refused(edge.stub.ResetUsage(reset, metadata=reader)) == denied


async def test_what_was_counted_of_a_person_goes_with_them(edge: Edge) -> None:
    people = await edge.make("people", "weft.people.")
    places = await edge.make(
        "places", "weft.people.", key=pb.KEY_KIND_HEADER, header="x-tenant", unit=pb.UNIT_MONTH
    )
    for user in ("gone", "stays"):
        assert await edge.passes(rpc="weft.people.X", user=user, header_x_tenant=user)
    await edge.lab.announce(UserDeleted(user_id="gone"))

    async def forgotten() -> bool:
        return set(await edge.usage(people.rate_limit_id)) == {"stays"}

    await until(forgotten)
    assert set(await edge.usage(places.rate_limit_id)) == {"gone", "stays"}
