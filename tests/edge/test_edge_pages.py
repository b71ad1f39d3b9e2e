"""Pages, scripts and the browsable API, served by the edge itself."""

from __future__ import annotations

import httpx
import pytest

from tests.edge.conftest import Edge

SERVED = {
    "/": "text/html; charset=utf-8",
    "/signin": "text/html; charset=utf-8",
    "/signin.js": "text/javascript; charset=utf-8",
    "/docs": "text/html; charset=utf-8",
    "/docs/start.js": "text/javascript; charset=utf-8",
    "/docs/swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "/docs/swagger-ui.css": "text/css; charset=utf-8",
    "/docs/favicon-32x32.png": "image/png",
    "/openapi.json": "application/json",
}


@pytest.mark.parametrize("path", SERVED)
def test_a_page_is_served_with_its_type_and_a_strict_policy(web: httpx.Client, path: str) -> None:
    answer = web.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (200, SERVED[path])
    assert answer.content
    policy = answer.headers["content-security-policy"]
    assert "script-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_docs_name_the_api_and_load_only_what_is_served(web: httpx.Client) -> None:
    page = web.get("/docs").text
    assert "A &lt;probe&gt;" in page
    for asset in ("/docs/swagger-ui.css", "/docs/swagger-ui-bundle.js", "/docs/start.js"):
        assert asset in page
    assert "/openapi.json" in web.get("/docs/start.js").text


def test_a_script_is_compressed(web: httpx.Client) -> None:
    with web.stream("GET", "/docs/swagger-ui-bundle.js", headers={"accept-encoding": "br"}) as answer:
        assert answer.headers["content-encoding"] == "br"


def test_a_page_takes_only_reads(web: httpx.Client) -> None:
    answer = web.post("/docs", content=b"x")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
    head = web.head("/docs")
    assert (head.status_code, head.content) == (200, b"")


def test_metrics_and_health_have_a_door_of_their_own(edge: Edge, web: httpx.Client) -> None:
    status, text = edge.get("stats", "/metrics")
    assert status == 200
    assert "envoy_cluster_upstream_rq" in text
    assert edge.get("stats", "/healthz/probe")[0] == 200
    assert edge.get("stats", "/stats")[0] == 404
    assert edge.get("stats", "/quitquitquit")[0] == 404
    assert web.get("/metrics").status_code == 404
