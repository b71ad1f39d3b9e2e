"""REST callers are served through the transcoder, with the right codes and shapes."""

import httpx


def test_a_read_by_path_is_transcoded(web: httpx.Client) -> None:
    answer = web.get("/v1/things/t-1")
    assert answer.status_code == 200
    assert answer.http_version == "HTTP/2"
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["thing"]["thingId"] == "t-1"
