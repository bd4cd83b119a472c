"""`GET /`: the page. Its files come with the package, are named here, and nothing of a request names a path."""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.responses import FileResponse

from elbert.serving.routes.docs import PAGES

_SCRIPT = "text/javascript"

# What a browser asks for before anybody can have given it a key: by address, the file and its type.
FILES = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", _SCRIPT),
    "/api.js": ("api.js", _SCRIPT),
    "/draw.js": ("draw.js", _SCRIPT),
}

router = APIRouter(include_in_schema=False)


def _add(path: str, file: str, kind: str) -> None:
    @router.get(path)
    async def answer() -> Response:
        return FileResponse(PAGES / file, media_type=kind)


for _path, (_file, _kind) in FILES.items():
    _add(_path, _file, _kind)
