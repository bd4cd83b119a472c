"""`POST /v1/classify`: texts in, labels out, as vLLM has it."""

from __future__ import annotations

import time
from uuid import uuid4

from fastapi import APIRouter, Request, Response

from elbert.serving.answers import classified, json_response, timing_headers
from elbert.serving.bodies import ClassifyRequest, texts_of
from elbert.serving.reading import BodyRoute
from elbert.serving.routes.waiting import answered

router = APIRouter(tags=["classify"], route_class=BodyRoute)


@router.post("/v1/classify", responses={200: {"description": "Of each text its label and all probabilities."}})
async def classify(request: Request, body: ClassifyRequest) -> Response:
    """Classify one text, or a list of them; `data` holds an entry of each, in order."""
    begun = time.perf_counter()
    served = request.app.state.models.find(body.model)
    texts = texts_of(body.input)
    asked = await answered(request, served, texts, body.parameters.wishes())
    usage = {"prompt_tokens": asked.tokens, "total_tokens": asked.tokens, "completion_tokens": 0}
    return json_response(
        {
            "id": f"classify-{uuid4().hex}",
            "object": "list",
            "created": int(time.time()),
            "model": served.name,
            "data": classified(served, asked),
            "usage": {**usage, "prompt_tokens_details": None},
        },
        headers=timing_headers(asked, time.perf_counter() - begun, texts),
    )
