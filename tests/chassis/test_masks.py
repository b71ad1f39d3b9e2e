"""A mask takes over what it names and nothing else; an etag tells one state from another."""

import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.field_mask_pb2 import FieldMask
from hypothesis import given, strategies as st

from services.chassis.masks import BadMask, EtagMismatch, apply_mask, check_etag, etag, masked_paths

File = descriptor_pb2.FileDescriptorProto  # A message with texts, lists and a message inside.
ALLOWED = ["name", "dependency", "options.java_package", "options.deprecated"]


def files() -> tuple[File, File]:
    target = File(name="old", package="kept", dependency=["a", "b"])
    target.options.java_package, target.options.go_package = "old", "kept"
    source = File(name="new", package="ignored", dependency=["c"])
    source.options.java_package, source.options.go_package = "new", "ignored"
    return target, source


def test_only_named_fields_are_taken_over() -> None:
    target, source = files()
    assert apply_mask(target, source, FieldMask(paths=["name"]), ALLOWED) == ["name"]
    expected, _ = files()
    expected.name = "new"
    assert target == expected


def test_an_empty_mask_means_all_allowed_fields_that_are_set() -> None:
    target, source = files()
    source.ClearField("name")
    apply_mask(target, source, FieldMask(), ALLOWED)
    assert (target.name, list(target.dependency), target.options.java_package) == ("old", ["c"], "new")
    assert (target.package, target.options.go_package) == ("kept", "kept")


def test_a_star_means_all_allowed_fields_and_clears_what_is_not_set() -> None:
    target, source = files()
    source.ClearField("name")
    del source.dependency[:]
    apply_mask(target, source, FieldMask(paths=["*"]), ALLOWED)
    assert (target.HasField("name"), list(target.dependency), target.package) == (False, [], "kept")


def test_a_named_message_means_its_allowed_parts() -> None:
    target, source = files()
    assert masked_paths(source, FieldMask(paths=["options"]), ALLOWED) == ALLOWED[2:]
    apply_mask(target, source, FieldMask(paths=["options"]), ALLOWED)
    assert (target.options.java_package, target.options.go_package) == ("new", "kept")


@pytest.mark.parametrize("path", ["package", "options.go_package", "nothing", "name.x", "", "opt", "*.name"])
def test_a_path_that_is_not_allowed_is_refused_by_its_name(path: str) -> None:
    target, source = files()
    with pytest.raises(BadMask) as refused:
        apply_mask(target, source, FieldMask(paths=["name", path]), ALLOWED)
    assert refused.value.facts == {"path": path, "field": "update_mask"}
    assert target == files()[0]


def test_a_part_of_an_allowed_message_may_be_named() -> None:
    target, source = files()
    apply_mask(target, source, FieldMask(paths=["options.go_package"]), ["options"])
    assert (target.options.java_package, target.options.go_package) == ("old", "ignored")


@given(st.text(min_size=1), st.text(min_size=1))
def test_an_etag_is_equal_exactly_for_equal_states(one: str, other: str) -> None:
    assert (etag(File(name=one)) == etag(File(name=other))) == (one == other)


def test_an_etag_is_checked_only_when_one_is_given() -> None:
    for given_etag in ("", "*", etag(3), f'"{etag(3)}"'):
        check_etag(given_etag, 3)
    with pytest.raises(EtagMismatch):
        check_etag(etag(2), 3)
