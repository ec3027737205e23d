"""`/docs`: a service's REST, to read and to try. Everything the page loads comes from the service itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.resources import files
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse, HTMLResponse, Response

# Swagger UI as the package fastapi-offline ships it, whose hash is pinned; nothing else of that package is used.
_ASSETS = Path(str(files("fastapi_offline") / "static"))
_CACHED = {"Cache-Control": "public, max-age=86400"}
# No script and no style is inline.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# Relative addresses: behind a proxy the service may live under a path.
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="stylesheet" href="docs/swagger-ui.css">
<link rel="icon" href="docs/favicon.png">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
_START = """SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
});
"""


def install_docs_page(app: FastAPI) -> None:
    """`app` is made without FastAPI's own pages, which load from a content network."""

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return HTMLResponse(_PAGE.format(title=app.title), headers={"Content-Security-Policy": POLICY})

    @app.get("/docs/start.js", include_in_schema=False)
    async def start() -> Response:
        return Response(_START, media_type="text/javascript", headers=_CACHED)

    for name in ("swagger-ui-bundle.js", "swagger-ui.css", "favicon.png"):
        app.get(f"/docs/{name}", include_in_schema=False)(_serving(_ASSETS / name))


def _serving(path: Path) -> Callable[[], Awaitable[Response]]:
    async def asset() -> Response:
        return FileResponse(path, headers=_CACHED)

    return asset
