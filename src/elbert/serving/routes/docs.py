"""`GET /docs`: the API for people, written from the OpenAPI document; no script, nothing from elsewhere."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, FileSystemLoader

PAGES = Path(__file__).parents[1] / "pages"

PATH, OPENAPI = "/docs", "/openapi.json"

router = APIRouter(include_in_schema=False)


@router.get(PATH)
async def docs(request: Request) -> Response:
    """Show every route with the fields of its body."""
    page = _environment().get_template("docs.html.jinja")
    return HTMLResponse(page.render(api=request.app.openapi(), fields=_fields))


@cache
def _environment() -> Environment:
    return Environment(loader=FileSystemLoader(PAGES), autoescape=True, trim_blocks=True, lstrip_blocks=True)


def _fields(api: dict[str, Any], operation: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return (name, type, description) of every field of an operation's body, those of objects in it dotted."""
    content = operation.get("requestBody", {}).get("content", {})
    schema = content.get("application/json", {}).get("schema", {})
    return _properties(api, schema, "")


def _properties(api: dict[str, Any], schema: dict[str, Any], prefix: str) -> list[tuple[str, str, str]]:
    found = []
    for name, each in _resolved(api, schema).get("properties", {}).items():
        within = _properties(api, each, f"{prefix}{name}.")
        found += within or [(f"{prefix}{name}", _type(api, each), each.get("description", ""))]
    return found


def _resolved(api: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    name = schema.get("$ref", "").rpartition("/")[2]
    return dict(api["components"]["schemas"][name]) if name else schema


def _type(api: dict[str, Any], schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_type(api, each) for each in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(json.dumps(value) for value in schema["enum"])
    if "$ref" in schema:
        return "object"
    if schema.get("type") == "array":
        return f"list of ({_type(api, schema.get('items', {}))})"
    return str(schema.get("type", "anything"))
