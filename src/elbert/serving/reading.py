"""How bodies become JSON, the same for a request and for a line of a stream: what others pass over is refused.

Python's own reader keeps the last of two keys of one name; FastAPI passes over whatever stands in the query, a charset
and an encoding. Each of them is a wish that would not be heard.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from email.message import Message
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from elbert.serving.refusals import Refusal, invalid

_CHARSETS = ("utf-8", "utf8", "utf-16", "utf-32", "us-ascii")  # of JSON; its first bytes tell them apart


def read_json(body: bytes) -> Any:
    """Return what JSON says.

    Raises:
        Refusal: a key stands twice in an object, a number has thousands of digits, it is nested too deeply or is not
            in a Unicode encoding.
        JSONDecodeError: it is no JSON.
    """
    try:
        return json.loads(body, object_pairs_hook=_unique_keys)
    except json.JSONDecodeError:
        raise
    except UnicodeDecodeError as error:
        raise invalid(f"the JSON is not UTF-8 (byte offset {error.start}); send it as UTF-8") from None
    except RecursionError:
        raise invalid("the JSON is nested too deeply; see /docs for what has to be sent") from None
    except ValueError:
        raise invalid("the JSON holds a number of thousands of digits; see /docs for what has to be sent") from None


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise invalid(f"the key {twice[:60]!r} stands twice in one object; give it once")
    return found


class BodyRoute(APIRoute):
    """A route whose wishes stand in a JSON body, and nowhere else."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return FastAPI's handler behind a look at the request."""
        handler = super().get_route_handler()

        async def checked(request: Request) -> Response:
            _check(request)
            return await handler(_JsonRequest(request.scope, request.receive))

        return checked


class _JsonRequest(Request):
    async def json(self) -> Any:
        return read_json(await self.body())


def _check(request: Request) -> None:
    """Refuse what would be passed over."""
    if name := next(iter(request.query_params), None):
        raise invalid(f"{name[:60]!r} stands in the address, where nothing is read; put it into the body, see /docs")
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        raise Refusal(415, "Validation", f"content-encoding {encoding[:60]!r} is not read; send the body as it is")
    given = request.headers.get("content-type", "")
    if ";" not in given:  # no parameters: nothing to be read as an email's header is
        return
    header = Message()
    header["content-type"] = given
    charset = header.get_content_charset()
    if charset is not None and not charset.startswith(_CHARSETS):
        raise Refusal(415, "Validation", f"charset {charset[:60]!r} is not read; send the JSON as UTF-8")
