"""What a `Classifier` and a `Cascade` of several offer alike: texts in, predictions out.

Says nothing of how they are answered.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from elbert.calibration.keeping import PolicyLike
from elbert.data import Labels, Text
from elbert.engine.engine import check_counts
from elbert.errors import UsageError
from elbert.results import Prediction


class Predictor(ABC):
    """Whoever answers texts one by one.

    Attributes:
        labels: the label space.
        backend, dtype, device: what computes, as plain names.
    """

    labels: Labels
    backend: str
    dtype: str
    device: str
    _num_outputs: int

    @property
    @abstractmethod
    def weights_digest(self) -> str | None:
        """What differs where the weights do; None for an exported model."""

    @abstractmethod
    def _answers(self, texts: Iterable[Text], policy: PolicyLike, batch_size: int) -> Iterator[tuple[Prediction, Any]]:
        """Yield predictions, each with its probabilities, [C], in input order."""

    def _here(self) -> dict[str, str]:
        """Return the circumstances a promise depends on."""
        here = {"dtype": self.dtype, "backend": self.backend, "device": self.device.split(":")[0]}
        return here if self.weights_digest is None else {**here, "weights": self.weights_digest}

    @property
    def classes_(self) -> tuple[str, ...]:
        """The class names in the order of `predict_proba`'s columns, as scikit-learn calls them; empty for values."""
        return self.labels.names

    @overload
    def predict(  # type: ignore[overload-overlap]  # a string is an iterable of strings too, and comes first
        self, texts: Text, *, policy: PolicyLike = None, batch_size: int = 32
    ) -> Prediction: ...

    @overload
    def predict(
        self, texts: Iterable[Text], *, policy: PolicyLike = None, batch_size: int = 32
    ) -> list[Prediction]: ...

    def predict(
        self, texts: Text | Iterable[Text], *, policy: PolicyLike = None, batch_size: int = 32
    ) -> Prediction | list[Prediction]:
        """Classify one text, or many in input order: one in, one out.

        Args:
            texts: a string, a pair `(text, text_pair)`, or an iterable of either. A list is never read as a pair.
            policy: as in `from_pretrained`, for this call only.
            batch_size: texts in flight together, >= 1; changes the speed, never the answer.

        Raises:
            UsageError: `batch_size` is no whole number of 1 or more; an unknown policy; something given is no text.
        """
        if isinstance(texts, (str, tuple)):
            check_counts(batch_size=batch_size)
            return next(self.stream([texts], policy=policy, batch_size=1))
        return list(self.stream(texts, policy=policy, batch_size=batch_size))

    def stream(self, texts: Iterable[Text], *, policy: PolicyLike = None, batch_size: int = 32) -> Iterator[Prediction]:
        """Classify any number of texts, yielding in input order with bounded memory.

        Texts are read ahead by 64 × batch_size to be ordered by length (on a CUDA device by two such windows).
        """
        for prediction, _ in self._answers(texts, policy, batch_size):
            yield prediction

    def predict_proba(
        self, texts: Iterable[Text], *, policy: PolicyLike = None, batch_size: int = 32
    ) -> NDArray[np.float32]:
        """Return what the exit each text left by says of every class, [N, C], columns as in `classes_`.

        Softmax for single label, where rows add up to 1; sigmoid for multi-label; the values of a regression.

        Args:
            texts: strings or pairs; one string is refused, since its row would be lost among many.
            policy: as in `predict`.
            batch_size: as in `predict`.
        """
        if isinstance(texts, (str, tuple)):
            raise UsageError("predict_proba takes a list of texts; put a single one into a list")
        rows = [probs for _, probs in self._answers(texts, policy, batch_size)]
        return np.array(rows, dtype=np.float32).reshape(len(rows), self._num_outputs)
