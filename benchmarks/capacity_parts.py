"""What a text costs beside its layers, as systems that the bench can time: its tokens, and JSON both ways."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from elbert.data import Text
from elbert.engine.tokens import arrivals
from elbert.evaluation.bench.job import Answers, Job, Run, Spec
from elbert.evaluation.bench.systems import SYSTEMS, Kind
from elbert.modeling.files.open import open_tokenizer

PARTS = ("tokenizer", "json")
SYSTEMS.setdefault("tokenizer", Kind(__name__, "texts to token ids, 256 together"))
SYSTEMS.setdefault("json", Kind(__name__, "a request of one text read and checked, its answer written"))


def body_of(text: Text) -> bytes:
    """Return the request that asks for one text."""
    inputs: Any = text if isinstance(text, str) else {"text": text[0], "text_pair": text[1]}
    return json.dumps({"inputs": inputs}).encode()


def answer_of(labels: Sequence[str], layers: int) -> list[dict[str, Any]]:
    """Return an answer of `/predict` as long as they are: every label with a score, and what stands beside it."""
    beside = {"exit_layer": 3, "layers": layers, "cause": "rule", "policy": "drop-1", "level": 2, "truncated": False}
    return [{"label": label, "score": 0.98245674, **beside} for label in labels]


def load(job: Job, spec: Spec) -> Run:
    """Return what does one part of the work for every text, and none of the others."""
    return _tokenizer(job) if spec.system == "tokenizer" else _json()


def _tokenizer(job: Job) -> Run:
    tokenizer = open_tokenizer(job.folder)

    def run(texts: Sequence[Text], _: int) -> Answers:
        return Answers([len(each.ids) for each in arrivals(texts, tokenizer, job.max_length, {})])

    return run


def _json() -> Run:
    from elbert.serving.bodies import PredictRequest, texts_of

    answer = answer_of(("negative", "positive"), 12)

    def run(texts: Sequence[Text], _: int) -> Answers:
        read = [texts_of(PredictRequest.model_validate(json.loads(body_of(text))).inputs) for text in texts]
        return Answers([len(json.dumps(answer, allow_nan=False)) for _ in read])

    return run
