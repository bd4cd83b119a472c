"""What every task says: logits become probabilities, those an answer, and an answer words; its targets and its losses.

C classes; leading dimensions are anything. Every measure is reduced over C alone and works row by row, so that of a row
is the same whatever stands beside it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from elbert.arrays import Array, amax, amin, namespace
from elbert.errors import UsageError
from elbert.results import ProblemType

if TYPE_CHECKING:
    from torch import Tensor

NOTHING = "no label"  # what a multi-label text is said to have without any
_MOST_LABELS = 30  # named one by one in a sentence


@dataclass(frozen=True)
class Task(ABC):
    """How one kind of problem is read.

    Where nothing else is said, an array may be numpy's or torch's, and a function gives back the kind it was given.

    Attributes:
        problem_type: transformers' word for it.
        metrics: names of the metrics that can score it, the default first.
        gives: what a text is given, in words.
        kind: what it is, in words.
        several: what to do about several labels in the place of one, the end of an error line.
        choice: how an answer is taken from the names.
        target_dtype: of the labels a loss wants, as torch calls it.
        answer_dtype: the smallest that holds a decision, as numpy calls it.
        has_classes: whether an answer is made of classes, which may be right or wrong; else of values, near or far.
        exclusive: whether exactly one class is the answer.
        fewest: classes there have to be.
        empty: what an absent cell of a label column means; None where it means nothing.
        scale_share: share of the texts of a calibration from which the scale of values is taken.
        criterion: of ELBERT's window, one that can fire.
        squash: what transformers' pipeline calls its function from logits to probabilities.
        measure: what an exit says of a class, or of the text, in a word.
    """

    problem_type: ProblemType
    metrics: tuple[str, ...]
    gives: str
    kind: str
    several: str = ""
    choice: str = ""
    target_dtype: str = "float32"
    answer_dtype: str = "float32"
    has_classes: bool = True
    exclusive: bool = False
    fewest: int = 1
    empty: str | None = None
    scale_share: float = 0.0
    criterion: str = "monotone"
    squash: str = "none"
    measure: str = "probability"

    # What an exit says, as policies read it.

    @abstractmethod
    def probabilities(self, logits: Array) -> Array:
        """Return softmax, sigmoid or the raw values of logits [..., C]."""

    @abstractmethod
    def logits(self, probs: Array) -> Array:
        """Return logits that give back probs [..., C], a numpy array; infinite where a probability is 0 or 1."""

    @abstractmethod
    def entropy(self, probs: Array) -> Array:
        """Return the entropy of probs [..., C] in nats, [...]; finite where a probability is 0 or 1.

        For multi-label it is the greatest one of a label's yes or no; for regression infinite, below no threshold.
        """

    def normalised_entropy(self, probs: Array) -> Array:
        """Return the entropy over its greatest possible value, [...] in [0, 1]; infinite for regression."""
        return self.entropy(probs) / math.log(max(probs.shape[-1], 2))

    @abstractmethod
    def confidence(self, probs: Array) -> Array:
        """Return how probable the answer is, [...] from probs [..., C].

        For multi-label it is the least sure label's max(p, 1 - p); for regression minus infinite, above no threshold.
        """

    @abstractmethod
    def energy(self, logits: Array) -> Array:
        """Return log Σ exp z of logits [rows, C], [rows].

        For multi-label the least of a label's two logits ± z/2; for regression minus infinite.
        """

    def for_class(self, logits: Array, place: int) -> Array:
        """Return how much parts [..., C] of logits speak for the class at `place`, [...]: what they add to its own.

        For single label, what they add above the mean of the others.
        """
        return logits[..., place]

    @abstractmethod
    def same(self, previous: Array, current: Array, tolerance: float) -> Array:
        """Return where two outputs [..., C] say the same, [...]: label, set of labels, or |difference| < tolerance."""

    @abstractmethod
    def distance(self, previous: Array, current: Array) -> Array:
        """Return the Jensen-Shannon divergence of two outputs [..., C] in nats, [...] from 0 to log 2.

        For multi-label it is the greatest of one label's yes or no; for regression the greatest |difference|.
        """

    # ELBERT's three criteria: is a text steady over its last N outputs, window [rows, N, C], oldest first? Outputs not
    # yet seen are NaN; a window that holds one is never steady. Each returns [rows] bool.

    @abstractmethod
    def monotone(self, window: Array) -> Array:
        """Return where the first and last label are equal and its probability never decreases in between."""

    def within_range(self, window: Array, tolerance: float) -> Array:
        """Return where the label stays the same and its probability (or the value) varies by at most `tolerance`."""
        return narrow(window, tolerance) & self.agreement(window, tolerance)

    def agreement(self, window: Array, tolerance: float) -> Array:
        """Return where the label stays the same (regression: each value is within `tolerance` of the one before)."""
        full = ~namespace(window).isnan(window[:, 0, 0])
        return full & self.same(window[:, :-1], window[:, 1:], tolerance).all(-1)

    # The answer.

    @abstractmethod
    def decisions(self, probs: Array) -> Array:
        """Return what is decided from probs [..., C], as metrics take it.

        Class indices [...] (single label), zeros and ones [..., C] at `LABEL_CUT` (multi-label), values [...] or
        [..., C] (regression).
        """

    @abstractmethod
    def answers(self, probs: Array, names: Sequence[str]) -> list[tuple[Any, Any]]:
        """Return (label, score) of each row of probs [rows, C] as a `Prediction` holds them."""

    @abstractmethod
    def encoded(self, label: Any, names: Sequence[str]) -> Any:
        """Return a prediction's label as `decisions` would: a class index, C zeros and ones, or the value."""

    @abstractmethod
    def words(self, row: Sequence[float], names: Sequence[str]) -> str:
        """Return the answer in one row of probabilities [C], in words."""

    def gold_words(self, gold: Any, names: Sequence[str]) -> str:
        """Return the right answer, encoded as in a `TextDataset`, in the words of `words`."""
        return self.words(gold if isinstance(gold, (list, tuple)) else [gold], names)

    def quoted(self, row: Sequence[float], names: Sequence[str]) -> str:
        """Return the same for the middle of a sentence; where there are no names, classes go by their numbers."""
        return ", ".join(f"“{names[at]}”" if names else f"class {at}" for at in self.chosen(row)) or NOTHING

    def chosen(self, row: Sequence[float]) -> list[int]:
        """Return the classes that one row of probabilities [C] says."""
        del row
        return []

    def span(self, values: Sequence[float]) -> tuple[float, float]:
        """Return from where to where an axis reaches on which values that exits said are drawn."""
        del values
        return 0.0, 1.0

    def number(self, value: float) -> str:
        """Return what an exit says in three digits; a probability is never rounded to a certainty it isn't."""
        if 0 < value < 0.0005:
            return "<0.001"
        return ">0.999" if 0.9995 <= value < 1 else f"{value:.3f}"

    def rest(self, probs: Tensor) -> tuple[str, Tensor]:
        """Return what classes without a line of their own are called together, and their value [M], from [M, C]."""
        return f"the highest of {probs.shape[1]} other labels", probs.amax(1)

    # Labels and losses.

    def items(self, value: Any, split: Callable[[Any], list[Any]]) -> list[Any]:
        """Return the classes that one label of a data set names; `split` takes a set of them apart."""
        del value, split
        return []

    def target(self, ids: Sequence[int], classes: int) -> Any:
        """Return what a loss wants of a text with these classes: an id, or C zeros and ones."""
        raise NotImplementedError  # values are of no class

    def kept(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Return the names of classes among a configuration's names of outputs."""
        return names

    def outputs(self, count: int | None, names: Sequence[str] | None) -> tuple[str, ...]:
        """Return the names of a fresh head's outputs.

        Args:
            count: of the outputs; None where the names say it.
            names: of the classes; None numbers them.

        Raises:
            UsageError: the two contradict each other, or there are too few.
        """
        given = tuple(names) if names is not None else tuple(f"LABEL_{index}" for index in range(count or 0))
        if not given:
            raise UsageError("a fresh head needs its classes: pass labels (their names) or num_labels (their count)")
        if count is not None and count != len(given):
            raise UsageError(f"num_labels is {count} but {len(given)} labels are named: pass only one of them")
        repeated = sorted({name for name in given if given.count(name) > 1})
        if repeated:
            raise UsageError(f"class names must differ, but {repeated[0]!r} is there twice")
        if len(given) < self.fewest:
            raise UsageError(f"a classifier needs two classes or more, not {len(given)}: {', '.join(given)}")
        return given

    def of_one_class(self, labels: Any) -> Any:
        """Return the encoded labels where each is the number of the one class of its text, else None."""
        del labels

    def members(self, labels: Tensor, classes: int) -> Tensor | None:
        """Return which texts are of which class, [N, C] bool, from decisions or encoded labels; None for values."""
        del labels, classes
        return None

    def nothing_to_learn(self, labels: Sequence[Any], names: Sequence[str]) -> str | None:
        """Return why encoded labels teach nothing, in words; None where they do."""
        if any(label != labels[0] for label in labels):
            return None
        ids = self.of_one_class(labels)
        only = labels[0] if ids is None else names[ids[0]]
        return (
            f"every one of its {len(labels)} rows has the label {only!r}; training needs at least two different labels"
        )

    def start_bias(self, labels: Sequence[Any], classes: int) -> Tensor | None:
        """Return the bias [C] a fresh head starts from, given the encoded training labels; None leaves it at 0."""
        del labels, classes
        return None

    def units(self, labels: Any) -> tuple[float, float] | None:
        """Return the units in which values are best learnt, (mean, standard deviation > 0); None for classes."""
        del labels
        return None

    @abstractmethod
    def exit_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the training loss of every exit of every text, [B, M], from logits [B, M, C] and encoded labels."""

    @abstractmethod
    def divergence(self, logits: Tensor, theirs: Tensor, temperature: float) -> Tensor:
        """Return how far exits are from a teacher, [B, M], from logits [B, M, C] and the teacher's [B, 1, C].

        T² times the Kullback-Leibler divergence at temperature T, of classes or meaned over every label's yes and no;
        the squared error of values, which have no temperature. Source: Hinton et al., arXiv 1503.02531.
        """

    @abstractmethod
    def wrongness(self, probs: Array, targets: Array) -> Array:
        """Return how wrong every exit is about every text, [N, M] in [0, 1], from probs [N, M, C] and encoded targets.

        0 or 1 for a label or the whole set of labels; for regression |tanh(ŷ − y)|, the greatest of a text.
        """

    @abstractmethod
    def mistakes(self, decided: Tensor, wanted: Tensor, metric: str, scale: float) -> tuple[Tensor, str, bool]:
        """Return what each of N answers costs, in [0, 1], what is counted in words, and whether it is only 0 or 1.

        Args:
            decided: as `decisions` gives it.
            wanted: the same of the right answers.
            metric: full name; an F1 asks for a softer cost than right or wrong where an answer has several parts.
            scale: range of the values, > 0.
        """

    def right(self, probs: Tensor, labels: Tensor) -> Tensor | None:
        """Return where probs [N, C] say the encoded labels, [N] bool; None for values, which are near or far."""
        said = self.decisions(probs).view(len(probs), -1)
        found: Tensor = (said == labels.view(len(probs), -1)).all(-1)
        return found

    def bets(self, probs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return every decision's confidence, whether it is right, and the targets [N, C] of probs [N, C]."""
        raise NotImplementedError  # values are no bets

    def level(self, probs: Tensor) -> Tensor:
        """Return the one number a text [..., C] is known by where texts of two times are compared: its confidence."""
        sure: Tensor = self.confidence(probs)
        return sure

    def offer(self, names: Sequence[str]) -> str:
        """Return what may be answered, as a sentence."""
        more = f" and {len(names) - _MOST_LABELS} more" if len(names) > _MOST_LABELS else ""
        listed = ", ".join(f"`{name}`" for name in names[:_MOST_LABELS])
        return f"{self.choice.capitalize()} {len(names)} labels: {listed}{more}."


def narrow(values: Array, tolerance: float) -> Array:
    """Return where every one of values [rows, N, C] varies by at most `tolerance` over N, [rows] bool."""
    return (amax(values, 1) - amin(values, 1) <= tolerance).all(-1)


def spread(labels: Tensor, logits: Tensor) -> Tensor:
    """Return labels [B] or [B, C] as floats for every exit, shaped as logits [B, M, C]."""
    batch, _, classes = logits.shape
    return labels.to(logits.dtype).view(batch, 1, classes).expand_as(logits)
