"""The pages: files beside this module, read once, that load nothing from elsewhere."""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

FOLDER: Final = Path(__file__).parent / "pages"
_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
# Catalogue texts reach these pages: nothing they hold may run, and only pictures come from elsewhere.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' https: http: data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Pages:
    """/shop, /admin, /docs and what they are made of."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._files = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix in _TYPES}

    def routes(self) -> list[Route]:
        """The routes of this module."""
        return [
            Route("/", self.home),
            Route("/shop", self.page),
            Route("/admin", self.page),
            Route("/docs", self.page),
            Route("/pages/{name}", self.asset),
        ]

    async def home(self, request: Request) -> Response:
        """Lead to the shop."""
        return RedirectResponse("/shop")

    async def page(self, request: Request) -> Response:
        """Send a page."""
        return self._file(request, request.url.path.strip("/") + ".html")

    async def asset(self, request: Request) -> Response:
        """Send a style sheet, a script or a picture."""
        return self._file(request, request.path_params["name"])

    def _file(self, request: Request, name: str) -> Response:
        content = self._files.get(name)
        if content is None:
            raise HTTPException(404)
        tag = f'"{blake2b(content, digest_size=8).hexdigest()}"'
        headers = {
            "content-type": _TYPES[Path(name).suffix],
            "content-security-policy": _POLICY,
            "x-content-type-options": "nosniff",
            "referrer-policy": "same-origin",
            "cache-control": "no-cache",
            "etag": tag,
        }
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers)
