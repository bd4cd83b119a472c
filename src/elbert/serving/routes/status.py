"""What a server says of itself: whether it is well, what it serves, what it has counted."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from elbert import __version__
from elbert.serving.answers import json_response
from elbert.serving.ladder import dial
from elbert.serving.served_cascade import Served

# What a level's calibration measured, as far as it says so.
_EVIDENCE = ("metric", "score", "full_depth_score")

router = APIRouter(tags=["status"])


@router.get("/health", responses={503: {"description": "Not warm yet, ending, or a worker is dead."}})
async def health(request: Request) -> Response:
    """Say whether requests are answered: 200, or 503 until the models are warm and where a worker is dead."""
    models = request.app.state.models
    state = {served.name: "ok" if served.healthy else "dead" if served.warm else "warming up" for served in models}
    return json_response({"models": state}, 200 if models.healthy else 503)


@router.get("/info")
async def info(request: Request) -> Response:
    """Describe the models, their speed levels and labels, and the server's limits."""
    settings, models = request.app.state.settings, request.app.state.models
    listed = [_about(served) for served in models]
    limits = {
        name: getattr(settings, name)
        for name in (
            "max_concurrent_requests",
            "max_batch_tokens",
            "max_batch_requests",
            "max_client_batch_size",
            "max_queue_tokens",
            "max_layers",
            "payload_limit",
            "auto_truncate",
        )
    }
    return json_response({**listed[0], **limits, "version": __version__, "models": listed})


@router.get("/v1/models")
async def models(request: Request) -> Response:
    """List the models by name."""
    data = [{"id": each.name, "object": "model", "owned_by": "elbert"} for each in request.app.state.models]
    return json_response({"object": "list", "data": data})


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """Return all counters in Prometheus' text format."""
    content = generate_latest(request.app.state.metrics.registry)
    return Response(content, headers={"content-type": CONTENT_TYPE_LATEST})


def _about(served: Served) -> dict[str, Any]:
    """Return what there is to know of one model."""
    classifier, ladder = served.classifier, served.ladder
    labels = classifier.labels.names
    columns = zip(ladder.names, ladder.policies, ladder.mean_exit_layers, strict=True)
    return {
        "model_id": served.name,
        "model_dtype": classifier.dtype,
        "backend": classifier.backend,
        "device": classifier.device,
        "model_type": {
            "classifier": {
                "id2label": {str(place): label for place, label in enumerate(labels)},
                "label2id": {label: place for place, label in enumerate(labels)},
            }
        },
        "problem_type": classifier.problem_type,
        "layers": classifier.num_layers,
        "max_input_length": classifier.max_length,
        "levels": [
            {
                "level": level,
                "name": name,
                "policy": policy.to_dict(),
                "mean_exit_layer": depth,
                **{key: classifier.calibration.get(name, {}).get(key) for key in _EVIDENCE},
                "drifting": name in served.drifting,
                "dial": dial(policy, classifier.num_layers, len(labels) or 1),
            }
            for level, (name, policy, depth) in enumerate(columns)
        ],
        "level": ladder.usual,
        "policies": sorted(classifier.policies),
    }
