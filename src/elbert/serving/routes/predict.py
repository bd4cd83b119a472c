"""`POST /predict`: texts in, labels out, as the Hugging Face and text-embeddings-inference APIs have it."""

from __future__ import annotations

import time

from fastapi import APIRouter, Request, Response

from elbert.serving.answers import json_response, predicted, timing_headers
from elbert.serving.bodies import PredictRequest, texts_of
from elbert.serving.reading import BodyRoute
from elbert.serving.routes.waiting import answered

router = APIRouter(tags=["classify"], route_class=BodyRoute)


@router.post("/predict", responses={200: {"description": "Of each text its labels, the most probable first."}})
async def predict(request: Request, body: PredictRequest) -> Response:
    """Classify one text, or a list of them.

    `[{"label", "score", "exit_layer", "layers", "cause", "policy", "level", "truncated"}, …]` for one text, a list of
    such lists for several. A text of a list that fails is `{"error", "error_type"}` in its place, and fails alone.
    """
    begun = time.perf_counter()
    served = request.app.state.models.find(body.model)
    texts = texts_of(body.inputs)
    asked = await answered(request, served, texts, body.parameters.wishes(truncate=body.truncate))
    found = predicted(served, asked, body.squash, body.parameters.top_k)
    headers = timing_headers(asked, time.perf_counter() - begun, texts)
    return json_response(found if isinstance(body.inputs, list) else found[0], headers=headers)
