"""Every case of h2spec (2.6, 146 of them, and three that it holds back as strict or added since), by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator

import pytest

from tests.wire import h2spec_fields, h2spec_generic, h2spec_http2, h2spec_settings
from tests.wire.hosts import Host, hosted
from tests.wire.specimen import Case

CASES = [*h2spec_generic.CASES, *h2spec_http2.CASES, *h2spec_settings.CASES, *h2spec_fields.CASES]


@pytest.fixture(scope="module", params=[False, True], ids=["asyncio", "uvloop"])
async def host(request: pytest.FixtureRequest) -> AsyncIterator[Host]:
    async with hosted("wire", uvloop=request.param) as host:
        yield host


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.id}: {case.name}")
async def test_the_server_does_what_h2spec_requires(host: Host, case: Case) -> None:
    await case.run(host.port)


def test_every_case_of_h2spec_stands_here_once() -> None:
    groups = Counter(case.id.split("/")[0] for case in CASES)
    assert len({case.id for case in CASES}) == len(CASES) == 146 + 3
    assert groups == {"generic": 44, "http2": 95 + 2, "hpack": 8}
