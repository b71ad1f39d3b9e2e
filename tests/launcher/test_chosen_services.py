"""A mesh of some services only, as WEFT_SERVICES names them."""

import pytest

from launcher import paths, roster
from launcher.problem import Problem


def test_without_a_choice_all_services_run() -> None:
    assert roster.chosen(paths.root(), {}) == roster.services(paths.root())


def test_a_choice_is_kept_in_the_order_of_all() -> None:
    assert roster.chosen(paths.root(), {"WEFT_SERVICES": "identity,audit,"}) == ["audit", "identity"]


def test_a_service_that_is_none_is_named() -> None:
    with pytest.raises(Problem, match="no service shoe"):
        roster.chosen(paths.root(), {"WEFT_SERVICES": "audit,shoe"})
