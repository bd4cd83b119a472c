"""What policies that learn have beside their parameters: weights, fitted on recorded outputs and saved as tensors."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from elbert.arrays import Array, like
from elbert.errors import UsageError
from elbert.exits.base import ExitPolicy, State
from elbert.exits.replay import recorded
from elbert.results import ExitOutput, LayerOutputs


class Weights(Mapping[str, NDArray[np.float32]]):
    """Named arrays of fp32, which nobody changes.

    Args:
        arrays: of any float type; they are copied.
    """

    def __init__(self, arrays: Mapping[str, ArrayLike] | None = None) -> None:
        self._arrays = {name: np.array(values, np.float32) for name, values in (arrays or {}).items()}
        self._placed: dict[tuple[str, Any], Array] = {}

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def like(self, name: str, other: Array) -> Array:
        """Return an array as what `other` is, placed once and kept: a captured graph reads on there."""
        if isinstance(other, np.ndarray):
            return self._arrays[name]
        place = (name, other.device)
        if place not in self._placed:
            self._placed[place] = like(self._arrays[name], other)
        return self._placed[place]


@dataclass(frozen=True)
class Learned(ExitPolicy):
    """Base of the policies that learn: one without weights decides nothing until `fit` or `with_tensors` gave some.

    A subclass names its weights in `axes`, finds them in `learn` and reads them with `weights.like`. One set of
    weights serves every setting of the parameters, so that a grid is fitted once.

    Attributes:
        axes: count of axes of every array of weights, by name.
        weights: not part of `==`, nor of `to_dict`.
    """

    learned: ClassVar[bool] = True
    axes: ClassVar[Mapping[str, int]]

    _: dataclasses.KW_ONLY
    weights: Weights = field(default_factory=Weights, compare=False, repr=False)

    def start(self, rows: int, num_labels: int) -> State:
        """Return no memory.

        Raises:
            UsageError: there are no weights yet.
        """
        del rows, num_labels
        self.check_fitted()
        return {}

    def check_fitted(self) -> None:
        """Raise UsageError where there are no weights yet."""
        if not self.weights:
            raise UsageError(
                f"exit policy {self.name!r} is learned and not fitted yet: run elbert calibrate with --policy "
                f"{self.name}, or call its fit"
            )

    def check_fits(self, num_labels: int, hidden_size: int) -> None:
        """Raise UsageError where the weights are of a model with another number of classes or hidden units.

        Args:
            num_labels: C of the model.
            hidden_size: H, units of its pooled states.
        """
        said, layer = np.full((1, num_labels), 1 / num_labels, np.float32), np.ones(1, np.int64)
        output = ExitOutput(said, said, np.zeros((1, hidden_size), np.float32))
        try:
            found, _ = self.decide(self.start(1, num_labels), output, layer)
            fits = found["fired"].shape == (1,)
        except (ValueError, IndexError):  # what numpy raises of shapes that don't go together
            fits = False
        if not fits:
            shapes = ", ".join(f"{name} {values.shape}" for name, values in self.weights.items())
            raise UsageError(
                f"the weights of exit policy {self.name!r} ({shapes}) are not for a model of {num_labels} classes and "
                f"{hidden_size} hidden units: calibrate again"
            )

    def tensors(self) -> dict[str, Array]:
        """Return the weights by name; none where it is not fitted."""
        return dict(self.weights)

    def with_tensors(self, tensors: Mapping[str, ArrayLike]) -> Self:
        """Return the policy with these weights.

        Raises:
            UsageError: one is missing or unknown, has another count of axes, or isn't finite.
        """
        if set(tensors) != set(self.axes):
            given = ", ".join(sorted(tensors)) or "none"
            raise UsageError(f"exit policy {self.name!r} has the weights {', '.join(self.axes)}; given: {given}")
        weights = Weights({name: tensors[name] for name in self.axes})
        for name, axes in self.axes.items():
            if weights[name].ndim != axes or not np.isfinite(weights[name]).all():
                raise UsageError(
                    f"exit policy {self.name!r}: {name} has the shape {weights[name].shape}; "
                    f"allowed: {axes} axes of finite numbers"
                )
        return dataclasses.replace(self, weights=weights)

    def fit(self, outputs: LayerOutputs, targets: ArrayLike) -> Self:
        """Return the policy with weights learned from recorded outputs; the model stays as it is.

        Args:
            outputs: a full-depth recording of N texts, with what the rule reads of it (`needs`); the policy must not be
                judged on these texts.
            targets: [N] or [N, C], the right answers, encoded.

        Raises:
            UsageError: no text, another count of targets, or the recording lacks what the rule reads.
            MissingExtraError: what finds the weights is not installed.
        """
        said = recorded(outputs, None, self)
        wanted = np.asarray(targets)
        if not len(said.probs) or len(wanted) != len(said.probs):
            raise UsageError(
                f"exit policy {self.name!r} was given {len(said.probs)} texts and {len(wanted)} targets to learn from; "
                "give one target a text, and at least one text"
            )
        if wanted.dtype.kind not in "biuf" or not np.isfinite(wanted).all():
            raise UsageError(f"exit policy {self.name!r}: a target is missing or no number; give one a text, encoded")
        return self.with_tensors(self.learn(said, wanted))

    @abstractmethod
    def learn(self, said: ExitOutput, targets: NDArray[Any]) -> Mapping[str, ArrayLike]:
        """Return weights by name.

        Args:
            said: all that was recorded as one output, its arrays [N, M, …] numpy's in fp32.
            targets: [N] or [N, C].
        """
