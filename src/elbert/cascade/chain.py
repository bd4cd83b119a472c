"""Whole models in a row, asked one after another by a policy that is given. Keeps none, and calibrates none."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray

from elbert.cascade.member import Member
from elbert.cascade.passage import Passage
from elbert.cascade.rules import check_members
from elbert.classifier import Classifier
from elbert.data import Text
from elbert.data.dataset import each_text
from elbert.engine.engine import SORTING_WINDOW, check_counts
from elbert.errors import UsageError
from elbert.exits import ExitPolicy
from elbert.results import LayerOutputs, Prediction


class Chain:
    """Models that answer with the same classes, and what they are together.

    Attributes:
        models: two or more, in the order they are asked.
        members: the same in their places.
        labels: the label space, in the last model's order.
        backend, dtype: what computes, of all models.
        device: where the last one runs.
    """

    def __init__(self, models: Sequence[Classifier]) -> None:
        if len(models) < 2:
            raise UsageError(f"a cascade has two models or more; given: {len(models)}")
        self.models = tuple(models)
        last = self.models[-1]
        self.labels, self._num_outputs = last.labels, last._num_outputs
        self.problem_type, self.task, self.device = last.problem_type, last.task, last.device
        self.backend, self.dtype = (
            ", ".join(dict.fromkeys(getattr(model, name) for model in models)) for name in ("backend", "dtype")
        )
        self.members = tuple(Member.of(model, last) for model in self.models)
        check_members(self.models)

    def answers(
        self, texts: Iterable[Text], policy: ExitPolicy, batch_size: int
    ) -> Iterator[tuple[Prediction, NDArray[np.float32]]]:
        """Yield predictions, each with its probabilities, in input order.

        Args:
            texts: strings or pairs; 64 × batch_size of them are read ahead.
            policy: which model answers.
            batch_size: texts in flight together.
        """
        check_counts(batch_size=batch_size)
        source = each_text(texts)
        while window := list(islice(source, min(SORTING_WINDOW * batch_size, sys.maxsize))):
            yield from self._window(window, policy, batch_size)

    def _window(
        self, texts: list[Text], policy: ExitPolicy, batch_size: int
    ) -> list[tuple[Prediction, NDArray[np.float32]]]:
        """Ask one model after another, each for the texts that are still there."""
        way = Passage(policy, self.members, len(texts))
        answers: dict[int, tuple[Prediction, NDArray[np.float32]]] = {}
        while len(way.rows):
            rows, number = way.rows, way.number
            said = self.members[number - 1].ask([texts[row] for row in rows.tolist()], batch_size)
            leave = way.hear(said)
            told = self.task.answers(torch.from_numpy(said.probs[leave]), self.labels.names)
            cuts = said.truncated[leave].tolist()
            for row, cut, probs, (label, score) in zip(
                rows[leave].tolist(), cuts, said.probs[leave], told, strict=True
            ):
                ran, cost = int(way.layers[row]), float(way.costs[row])
                answers[row] = Prediction(label, score, ran, self.num_layers, cut, number, round(cost, 4)), probs
        return [answers[row] for row in range(len(texts))]

    def record(
        self, texts: Iterable[Text], *, batch_size: int = 32, on_texts: Callable[[int], object] | None = None
    ) -> LayerOutputs:
        """Let every model answer every text, each with its own exits, and return it with the models as layers.

        Args:
            texts: strings or pairs.
            batch_size: texts in flight together, >= 1.
            on_texts: called with a count of texts whenever a model is through with so many more.
        """
        listed = list(each_text(texts))
        said = [member.ask(listed, batch_size, on_texts) for member in self.members]
        logits, probs = (
            torch.from_numpy(np.stack([getattr(each, part) for each in said], 1)) for part in ("logits", "probs")
        )
        return LayerOutputs(logits, probs, torch.from_numpy(said[-1].lengths), None, self.problem_type)

    @property
    def max_length(self) -> int:
        """Tokens of a text that every model reads."""
        return min(model.max_length for model in self.models)

    @property
    def num_layers(self) -> int:
        """Layers of all models, which a text runs at most."""
        return sum(model.num_layers for model in self.models)

    @property
    def weights_digest(self) -> str | None:
        """What differs where any model's weights do; None where one of them is an exported one."""
        digests = [model.weights_digest for model in self.models]
        return None if None in digests else "-".join(map(str, digests))
