"""What the edge serves by itself: static pages, the browser client, the browsable API."""

from __future__ import annotations

import html
import json
from importlib.resources import files
from pathlib import Path

from .refusals import refuse
from .routes import Tree
from .settings import Settings
from .wire import Json, equals, header

TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}
OWN_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# The browsable API's styles are written by its script, those in the mailbox came with the mail.
STYLED = ("/docs", "/mailbox")
STYLED_CSP = OWN_CSP.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")
DOCS_ASSETS = ("swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png")
DOCS_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<link rel="stylesheet" href="/docs/swagger-ui.css">
<link rel="icon" type="image/png" href="/docs/favicon-32x32.png">
</head>
<body>
<div id="docs"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
DOCS_START = """SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#docs",
  deepLinking: true,
  validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis],
});
"""


def plant(grown: Tree, settings: Settings, out: Path) -> None:
    """Adds the routes of all pages to a tree."""
    for path, file in table(settings, out).items():
        csp = STYLED_CSP if path in STYLED else OWN_CSP
        grown.branches.setdefault(path, []).extend(_page(path, file, csp))


def table(settings: Settings, out: Path) -> dict[str, Path]:
    """Paths and the files that are served there."""
    served = {}
    if settings.pages.is_dir():
        for file in sorted(settings.pages.iterdir()):
            if file.suffix in TYPES:
                served[_path(file)] = file.absolute()
    if settings.bundle.is_file():
        served["/weft.js"] = settings.bundle.absolute()
    if settings.openapi.is_file():
        served["/openapi.json"] = settings.openapi.absolute()
        served |= _docs(settings, out / "docs")
    return served


def _path(file: Path) -> str:
    if file.name == "index.html":
        return "/"
    return f"/{file.stem if file.suffix == '.html' else file.name}"


def _docs(settings: Settings, folder: Path) -> dict[str, Path]:
    """Writes the browsable API's own files; the rest is in the wheel."""
    folder.mkdir(parents=True, exist_ok=True)
    title = json.loads(settings.openapi.read_text("utf-8")).get("info", {}).get("title", "API")
    (folder / "index.html").write_text(DOCS_PAGE.format(title=html.escape(title)), "utf-8")
    (folder / "start.js").write_text(DOCS_START, "utf-8")
    source = Path(str(files("swagger_ui"))) / "static"
    served = {f"/docs/{name}": source / name for name in DOCS_ASSETS}
    return {"/docs": folder / "index.html", "/docs/start.js": folder / "start.js", **served}


def _page(path: str, file: Path, csp: str) -> list[Json]:
    headers = {
        "content-type": TYPES[file.suffix],
        "cache-control": "no-cache",
        "content-security-policy": csp,
    }
    reads = [{**_match(path), "headers": [equals(":method", verb)]} for verb in ("GET", "HEAD")]
    served = {
        "direct_response": {"status": 200, "body": {"filename": str(file)}},
        "response_headers_to_add": [header(name, value) for name, value in headers.items()],
    }
    other = refuse(405, "This page takes GET, HEAD.", ("allow", "GET, HEAD"))
    name = {"name": f"page {path}"}
    return [*({"match": match, **name, **served} for match in reads), {"match": _match(path), **other}]


def _match(path: str) -> Json:
    return {"path": path}
