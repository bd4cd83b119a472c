"""The page's own files; they come with the package, and nothing of a request names a path."""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.responses import FileResponse

from elbert.serving.routes.docs import PAGES

router = APIRouter(include_in_schema=False)


@router.get("/page.css")
async def style() -> Response:
    """Return the style of the pages."""
    return FileResponse(PAGES / "page.css", media_type="text/css")
