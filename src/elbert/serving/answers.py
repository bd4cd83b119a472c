"""Answers as the two APIs write them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import torch
from fastapi import Response

from elbert.cascade import Cascade
from elbert.classifier import Classifier
from elbert.data import Text
from elbert.serving.bodies import Squash
from elbert.serving.refusals import Refusal, refused
from elbert.serving.rows import Answer, Asked, Row
from elbert.serving.served_cascade import Served
from elbert.serving.tokeniser import characters


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return JSON that any parser takes: ASCII, so that half a surrogate pair is no trouble either."""
    return Response(json.dumps(value, allow_nan=False), status, headers, media_type="application/json")


def outcomes(asked: Asked) -> list[Answer | Refusal]:
    """Return what became of each text of a request that is through."""
    return [outcome for outcome in asked.ticket.outcomes if outcome is not None]


def beside(served: Served, row: Row, answer: Answer, *, truncated: bool) -> dict[str, Any]:
    """Return what stands beside a label: where the text left, why, and under which policy."""
    return {
        "exit_layer": answer.exit_layer,
        "layers": served.classifier.num_layers,
        "cause": answer.cause,
        "policy": row.policy_name,
        "level": row.level,
        "truncated": truncated,
        **({} if answer.member is None else {"member": answer.member, "cost": answer.cost}),
    }


def scores(
    classifier: Classifier | Cascade, answer: Answer, squash: Squash | None, top_k: int | None
) -> list[tuple[str, float]]:
    """Return labels with their scores, the greatest first; a value of a regression is called LABEL_0, as elsewhere."""
    values = {
        None: lambda: answer.probs,
        "none": lambda: answer.logits,
        "softmax": lambda: torch.tensor(answer.logits).softmax(-1).tolist(),
        "sigmoid": lambda: torch.tensor(answer.logits).sigmoid().tolist(),
    }[squash]()
    names = classifier.labels.names or tuple(f"LABEL_{place}" for place in range(len(values)))
    return sorted(zip(names, values, strict=True), key=lambda pair: -pair[1])[:top_k]


def predicted(served: Served, asked: Asked, squash: Squash | None, top_k: int | None) -> list[Any]:
    """Return the answer of `/predict`: of each text its labels, or the error it alone ran into."""
    found: list[Any] = []
    for row, outcome in zip(asked.rows, outcomes(asked), strict=True):
        if isinstance(outcome, Refusal):
            found.append(refused(outcome))
            continue
        further = beside(served, row, outcome, truncated=asked.truncated[row.place])
        pairs = scores(served.classifier, outcome, squash, top_k)
        found.append([{"label": label, "score": score, **further} for label, score in pairs])
    return found


def classified(served: Served, asked: Asked) -> list[dict[str, Any]]:
    """Return the `data` of `/v1/classify`."""
    found: list[dict[str, Any]] = []
    for row, outcome in zip(asked.rows, outcomes(asked), strict=True):
        if isinstance(outcome, Refusal):
            found.append({"index": row.place, "label": None, "probs": None, "num_classes": None, **refused(outcome)})
            continue
        classifier = served.classifier
        [(label, _)] = classifier.task.answers(torch.tensor([outcome.probs]), classifier.labels.names)
        further = beside(served, row, outcome, truncated=asked.truncated[row.place])
        said = {"label": label, "probs": outcome.probs, "num_classes": len(outcome.probs)}
        found.append({"index": row.place, **said, **further})
    return found


def timing_headers(asked: Asked, total: float, texts: Sequence[Text]) -> dict[str, str]:
    """Return the times of a request's stages in milliseconds, in text-embeddings-inference's headers.

    Args:
        asked: the request; of its texts the slowest one counts.
        total: seconds since it came.
        texts: its own.
    """
    answers: Sequence[Answer] = [outcome for outcome in outcomes(asked) if isinstance(outcome, Answer)]
    seconds = {
        "x-total-time": total,
        "x-tokenization-time": asked.tokenise_seconds,
        "x-queue-time": max((answer.queued for answer in answers), default=0.0),
        "x-inference-time": max((answer.computed for answer in answers), default=0.0),
    }
    times = {name: str(math.ceil(value * 1000)) for name, value in seconds.items()}
    return {**times, "x-compute-tokens": str(asked.tokens), "x-compute-characters": str(characters(texts))}


def refused_response(path: str, refusal: Refusal) -> Response:
    """Return an error in the words of the API that was asked: OpenAI's under /v1, else text-embeddings-inference's."""
    content: dict[str, Any] = refused(refusal)
    if path.startswith("/v1/"):
        content = {"error": {"message": refusal.line, "type": refusal.kind, "code": refusal.status}}
    headers = None if refusal.retry_after is None else {"retry-after": str(refusal.retry_after)}
    return json_response(content, refusal.status, headers)
