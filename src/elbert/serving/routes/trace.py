"""`POST /trace`: one text layer by layer, as `elbert explain --json` writes it."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from elbert.errors import ElbertError
from elbert.serving.answers import json_response
from elbert.serving.bodies import TraceRequest, texts_of
from elbert.serving.guards import key_of
from elbert.serving.reading import BodyRoute
from elbert.serving.refusals import invalid
from elbert.serving.routes.waiting import unless_gone

router = APIRouter(tags=["explain"], route_class=BodyRoute)


@router.post("/trace", responses={200: {"description": "What every exit said, and what the policy made of it."}})
async def trace(request: Request, body: TraceRequest) -> Response:
    """Run one text to full depth, and show where it would have left and why."""
    served = request.app.state.models.find(body.model)
    [text] = texts_of(body.inputs)
    tracing = served.trace(text, body.parameters.wishes(), key_of(request))
    try:
        return json_response((await unless_gone(request, tracing)).to_dict())
    except ElbertError as error:
        raise invalid(str(error)) from None
