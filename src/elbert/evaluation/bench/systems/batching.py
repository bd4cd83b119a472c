"""Other ways to batch texts that leave early, over our own layers and with the same exits, beside our refill.

`elbert-waits`: a batch runs until all of it is sure, and answers there (PABEE's code, and most others').
`elbert-sorted`: the same, of texts sorted by their exit layer, which is known for nothing: what GEEP's prediction could
reach at best. `elbert-split`: a batch a layer, filled up with what the batches before left over, and rows at different
depths never together (E3, on one machine). Where layers have weights of their own ours does the last by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, ClassVar

import numpy as np
import torch

from elbert.arrays import Array
from elbert.classifier import Classifier
from elbert.data import Text
from elbert.engine import Scheduler
from elbert.engine.engine import SORTING_WINDOW, by_length, refill
from elbert.engine.placement import DTYPES, most_tokens
from elbert.engine.requests import Arrival, Departures
from elbert.errors import UsageError
from elbert.evaluation.bench.batches import held
from elbert.evaluation.bench.job import Answers, Job, Run, Spec
from elbert.exits import ExitPolicy
from elbert.exits.base import Found, State
from elbert.results import ExitOutput
from elbert.tasks import task_of

_SPLIT, _SORTED = "elbert-split", "elbert-sorted"


@dataclass(frozen=True)
class Together(ExitPolicy):
    """Leave at the first layer by which the rule of every row of the call has fired; so it is no policy to register."""

    name: ClassVar[str] = "together"
    summary: ClassVar[str] = "a batch leaves when the last of its rows would"
    citation: ClassVar[str] = "Zhou et al., PABEE, NeurIPS 2020, arXiv:2006.04152 (its code)"

    rule: ExitPolicy

    def __post_init__(self) -> None:
        """Read what the rule reads; it was checked when it was made."""
        object.__setattr__(self, "needs", self.rule.needs)

    def start(self, rows: int, num_labels: int) -> State:
        """Return the rule's memory and `done` [rows], whether it has fired."""
        return {**self.rule.start(rows, num_labels), "done": np.zeros(rows, bool)}

    def decide(self, state: State, output: ExitOutput, layer: Array) -> tuple[Found, State]:
        """Ask the rule of every row, and let all go or none."""
        found, after = self.rule.decide(state, output, layer)
        done = state["done"] | self.rule.leaves(found, layer)
        return {"fired": np.full(len(done), bool(done.all()))}, {**after, "done": done}


class Batched:
    """One of the systems in a race.

    Args:
        job: model and texts.
        spec: which system, and with which exits.

    Raises:
        UsageError: a batch is to wait for its slowest row, and gates take its rows to different layers.
    """

    def __init__(self, job: Job, spec: Spec) -> None:
        self._classifier = Classifier.from_pretrained(
            job.folder, backend=spec.backend, device=job.device, dtype=spec.dtype, problem_type=job.problem_type
        )
        self._system, self._json = spec.system, spec.policy or {"name": "full"}
        if spec.system != _SPLIT and self._json.get("gates") is not None:
            raise UsageError(
                f"{spec.system} lets a batch leave at one layer, and gates take its rows to different ones; race these "
                f"exits against {_SPLIT}, or without gates"
            )
        self._most = most_tokens(torch.device(job.device), DTYPES[spec.dtype])
        self._exits: dict[Text, int] = {}
        if spec.system == _SORTED:
            known = self._classifier.stream(job.texts, policy=self._json)
            self._exits = {text: each.exit_layer for text, each in zip(job.texts, known, strict=True)}

    def __call__(self, texts: Sequence[Text], batch: int) -> Answers:
        """Classify texts, `batch` in flight."""
        arrivals = self._classifier.arrivals(texts, {})
        if self._system == _SORTED:
            arrivals = self._by_exit(arrivals, texts, SORTING_WINDOW * batch)
        else:
            arrivals = by_length(arrivals, SORTING_WINDOW * batch)
        labels: list[Any] = [0] * len(texts)
        layers = [0] * len(texts)
        task = task_of(self._classifier.problem_type)
        for group in self._run(arrivals, batch):
            answers = task.decisions(group.probs).tolist()
            for index, layer, label in zip(group.index.tolist(), group.exit_layer.tolist(), answers, strict=True):
                labels[index], layers[index] = label, layer
        return Answers(labels, layers)

    def _by_exit(self, arrivals: Iterable[Arrival], texts: Sequence[Text], window: int) -> Iterator[Arrival]:
        """Yield arrivals ordered by exit layer, then by length, inside consecutive windows."""
        source = iter(arrivals)
        while chunk := list(islice(source, window)):
            yield from sorted(chunk, key=lambda each: (self._exits[texts[each.index]], len(each.ids)))

    def _run(self, arrivals: Iterable[Arrival], batch: int) -> Iterator[Departures]:
        rule = self._classifier.exit_policy(self._json)  # with the weights that the model keeps for it
        if self._system == _SPLIT:
            yield from self._split(arrivals, rule, batch)
            return
        scheduler = self._classifier.engine.scheduler(
            Together(rule, **rule.around), batch_size=batch, max_tokens=self._most
        )
        for rows in held(arrivals, batch, self._most):
            for row in rows:
                scheduler.admit(row)
            yield from refill(scheduler, ())

    def _split(self, arrivals: Iterable[Arrival], rule: ExitPolicy, batch: int) -> Iterator[Departures]:
        """Run rows in pools of one depth, whether the layers share their weights or not."""
        engine = self._classifier.engine
        apart = replace(engine.weights, layers=tuple(tuple(map(replace, layer)) for layer in engine.weights.layers))
        options: dict[str, Any] = {"batch_size": batch, "max_tokens": self._most, "words": engine.words}
        yield from refill(Scheduler(apart, engine.backend, rule, **options), arrivals)


def load(job: Job, spec: Spec) -> Run:
    """Return the system that `spec` names.

    Raises:
        ElbertError: the backend is not installed, can't compute in this precision, or the exits can't be run so.
    """
    return Batched(job, spec)
