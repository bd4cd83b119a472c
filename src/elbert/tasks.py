"""What a problem type means: one frozen `Task` each, and the only place that tells them apart.

How logits become probabilities, probabilities an answer, an answer words; which loss, metric and targets belong to it.
C classes; leading dimensions are anything. Torch is imported by whoever passes its tensors, not here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from elbert.results import LABEL_CUT, ProblemType

if TYPE_CHECKING:
    from torch import Tensor

NOTHING = "no label"  # what a multi-label text is said to have without any


@dataclass(frozen=True)
class Task(ABC):
    """How one kind of problem is read.

    Attributes:
        problem_type: transformers' word for it.
        metrics: names of the metrics that can score it, the default first.
        gives: what a text is given, in words.
        choice: how an answer is taken from the names.
        target_dtype: of the labels a loss wants, as torch calls it.
        answer_dtype: the smallest that holds a decision, as numpy calls it.
        has_classes: whether an answer is made of classes, which may be right or wrong; else of values, near or far.
        exclusive: whether exactly one class is the answer.
        criterion: of ELBERT's window, where its own default never fires; None takes that.
        squash: what transformers' pipeline calls its function from logits to probabilities.
    """

    problem_type: ProblemType
    metrics: tuple[str, ...]
    gives: str
    choice: str = ""
    target_dtype: str = "float32"
    answer_dtype: str = "float32"
    has_classes: bool = True
    exclusive: bool = False
    criterion: str | None = None
    squash: str = "none"

    @abstractmethod
    def probabilities(self, logits: Tensor) -> Tensor:
        """Return softmax, sigmoid or the raw values of logits [..., C]."""

    @abstractmethod
    def decisions(self, probs: Any) -> Any:
        """Return what is decided from probs [..., C], a tensor or an array, as metrics take it.

        Class indices [...] (single label), zeros and ones [..., C] at `LABEL_CUT` (multi-label), values [...] or
        [..., C] (regression).
        """

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
    def mistakes(self, decided: Tensor, wanted: Tensor, metric: str, scale: float) -> tuple[Tensor, str, bool]:
        """Return what each of N answers costs, in [0, 1], what is counted in words, and whether it is only 0 or 1.

        Args:
            decided: as `decisions` gives it.
            wanted: the same of the right answers.
            metric: full name; an F1 asks for a softer cost than right or wrong where an answer has several parts.
            scale: range of the values, > 0.
        """

    def confidence(self, probs: Tensor) -> Tensor | None:
        """Return how probable the answer is, [...] from probs [..., C]; None where there are only values."""
        del probs
        return None

    def bets(self, probs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return every decision's confidence, whether it is right, and the targets [N, C] of probs [N, C]."""
        raise NotImplementedError  # values are no bets

    def members(self, labels: Tensor, classes: int) -> Tensor | None:
        """Return which texts are of which class, [N, C] bool, from decisions or encoded labels; None for values."""
        del labels, classes
        return None

    @abstractmethod
    def answers(self, probs: Tensor, names: Sequence[str]) -> list[tuple[Any, Any]]:
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

    def chosen(self, row: Tensor) -> list[int]:
        """Return the classes that one row of probabilities [C] says."""
        del row
        return []

    def rest(self, probs: Tensor) -> tuple[str, Tensor]:
        """Return what classes without a line of their own are called together, and their value [M], from [M, C]."""
        return f"the highest of {probs.shape[1]} other labels", probs.amax(1)

    def start_bias(self, labels: Sequence[Any], classes: int) -> Tensor | None:
        """Return the bias [C] a fresh head starts from, given the encoded training labels; None leaves it at 0."""
        del labels, classes
        return None


class _SingleLabel(Task):
    def probabilities(self, logits: Tensor) -> Tensor:
        return logits.softmax(-1)

    def decisions(self, probs: Any) -> Any:
        return probs.argmax(-1)

    def exit_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        from torch.nn.functional import cross_entropy

        batch, exits, _ = logits.shape
        targets = labels.long().view(batch, 1).expand(batch, exits)
        return cross_entropy(logits.transpose(1, 2), targets, reduction="none")

    def divergence(self, logits: Tensor, theirs: Tensor, temperature: float) -> Tensor:
        wanted, mine = ((each / temperature).log_softmax(-1) for each in (theirs, logits))
        return temperature**2 * (wanted.exp() * (wanted - mine)).sum(-1)

    def mistakes(self, decided: Tensor, wanted: Tensor, metric: str, scale: float) -> tuple[Tensor, str, bool]:
        del metric, scale
        return (decided != wanted).double(), "wrong label", True

    def confidence(self, probs: Tensor) -> Tensor | None:
        return probs.amax(-1)

    def bets(self, probs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        from torch.nn.functional import one_hot

        top, answer = probs.max(-1)
        return top, answer == labels, one_hot(labels.long(), probs.shape[-1]).double()

    def members(self, labels: Tensor, classes: int) -> Tensor | None:
        from torch.nn.functional import one_hot

        return one_hot(labels.long(), classes).bool()

    def answers(self, probs: Tensor, names: Sequence[str]) -> list[tuple[Any, Any]]:
        said = probs.numpy()  # numpy's operations cost a fraction of a tensor's for the few rows that leave at a step
        labels = [names[index] for index in said.argmax(-1).tolist()]
        return list(zip(labels, said.max(-1).tolist(), strict=True))

    def encoded(self, label: Any, names: Sequence[str]) -> Any:
        return names.index(label)

    def words(self, row: Sequence[float], names: Sequence[str]) -> str:
        return names[max(range(len(row)), key=row.__getitem__)]

    def gold_words(self, gold: Any, names: Sequence[str]) -> str:
        return names[int(gold)]

    def chosen(self, row: Tensor) -> list[int]:
        return [int(row.argmax())]

    def rest(self, probs: Tensor) -> tuple[str, Tensor]:
        return f"{probs.shape[1]} other classes together", probs.sum(1)

    def start_bias(self, labels: Sequence[Any], classes: int) -> Tensor | None:
        import torch

        # The log of each class's share, half a row added to every class; meaned to 0, where even shares then lie.
        shares = torch.bincount(torch.tensor(labels), minlength=classes).double() + 0.5
        return shares.log() - shares.log().mean()


class _MultiLabel(Task):
    def probabilities(self, logits: Tensor) -> Tensor:
        return logits.sigmoid()

    def decisions(self, probs: Any) -> Any:
        return (probs >= LABEL_CUT) * 1.0

    def exit_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        from torch.nn.functional import binary_cross_entropy_with_logits

        return binary_cross_entropy_with_logits(logits, _spread(labels, logits), reduction="none").mean(2)

    def divergence(self, logits: Tensor, theirs: Tensor, temperature: float) -> Tensor:
        from torch.nn.functional import logsigmoid

        wanted, mine = theirs / temperature, logits / temperature
        yes, no = (logsigmoid(sign * wanted) - logsigmoid(sign * mine) for sign in (1, -1))
        return temperature**2 * (wanted.sigmoid() * yes + (-wanted).sigmoid() * no).mean(-1)

    def mistakes(self, decided: Tensor, wanted: Tensor, metric: str, scale: float) -> tuple[Tensor, str, bool]:
        del scale
        if metric == "accuracy":
            return (decided != wanted).any(-1).double(), "wrong set of labels", True
        both, either = (decided * wanted).sum(-1), decided.sum(-1) + wanted.sum(-1)
        # Nothing to find and nothing found is right.
        return (1 - 2 * both / either.clamp_min(1)).where(either > 0, either * 0.0), "1 - F1 of a text", False

    def confidence(self, probs: Tensor) -> Tensor | None:
        return probs.maximum(1 - probs).amin(-1)  # of the least sure label

    def bets(self, probs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        right = (probs >= LABEL_CUT) == labels.bool()
        return probs.maximum(1 - probs).flatten(), right.flatten(), labels.double()  # a text decides C times

    def members(self, labels: Tensor, classes: int) -> Tensor | None:
        del classes
        return labels.bool()

    def answers(self, probs: Tensor, names: Sequence[str]) -> list[tuple[Any, Any]]:
        found = []
        for row in probs.tolist():
            said = [(name, p) for name, p in zip(names, row, strict=True) if p >= LABEL_CUT]
            found.append((tuple(name for name, _ in said), tuple(p for _, p in said)))
        return found

    def encoded(self, label: Any, names: Sequence[str]) -> Any:
        return [float(name in label) for name in names]

    def words(self, row: Sequence[float], names: Sequence[str]) -> str:
        return " + ".join(name for name, p in zip(names, row, strict=True) if p >= LABEL_CUT) or NOTHING

    def chosen(self, row: Tensor) -> list[int]:
        return [int(index) for index in (row >= LABEL_CUT).nonzero().flatten().tolist()]

    def start_bias(self, labels: Sequence[Any], classes: int) -> Tensor | None:
        del classes
        import torch

        # The log-odds of each label's share, half a row added on both sides.
        values = torch.tensor(labels, dtype=torch.float64)
        return ((values.sum(0) + 0.5) / (len(values) + 1)).logit()


class _Regression(Task):
    def probabilities(self, logits: Tensor) -> Tensor:
        return logits

    def decisions(self, probs: Any) -> Any:
        return probs.squeeze(-1) if probs.shape[-1] == 1 else probs

    def exit_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        from torch.nn.functional import mse_loss

        return mse_loss(logits, _spread(labels, logits), reduction="none").mean(2)

    def divergence(self, logits: Tensor, theirs: Tensor, temperature: float) -> Tensor:
        del temperature
        return (logits - theirs).square().mean(-1)

    def mistakes(self, decided: Tensor, wanted: Tensor, metric: str, scale: float) -> tuple[Tensor, str, bool]:
        del metric
        texts = len(wanted)
        distance = (decided.reshape(texts, -1) - wanted.reshape(texts, -1)).abs().mean(-1)
        return (distance / scale).clamp(0, 1), f"distance from the right value / {scale:g}, at most 1", False

    def answers(self, probs: Tensor, names: Sequence[str]) -> list[tuple[Any, Any]]:
        del names
        return [(row[0] if len(row) == 1 else tuple(row), None) for row in probs.tolist()]

    def encoded(self, label: Any, names: Sequence[str]) -> Any:
        del names
        return label

    def words(self, row: Sequence[float], names: Sequence[str]) -> str:
        del names
        return ", ".join(f"{value:.2f}" for value in row)


def _spread(labels: Tensor, logits: Tensor) -> Tensor:
    """Return labels [B] or [B, C] as floats for every exit, shaped as logits [B, M, C]."""
    batch, _, classes = logits.shape
    return labels.to(logits.dtype).view(batch, 1, classes).expand_as(logits)


SINGLE_LABEL: Task = _SingleLabel(
    "single_label_classification",
    ("accuracy", "f1_micro", "f1_macro", "f1_binary", "matthews"),
    gives="one label a text",
    choice="one of",
    target_dtype="int64",
    answer_dtype="int32",
    exclusive=True,
    squash="softmax",
)
MULTI_LABEL: Task = _MultiLabel(
    "multi_label_classification",
    ("f1_micro", "f1_macro", "accuracy"),
    gives="any number of labels a text",
    choice="any of",
    answer_dtype="uint8",
    squash="sigmoid",
)
REGRESSION: Task = _Regression(
    "regression",
    ("pearson", "spearman"),
    gives="a number a text",
    has_classes=False,
    criterion="range",  # one value has no probabilities that could all move one way
)

TASKS: dict[str, Task] = {task.problem_type: task for task in (SINGLE_LABEL, MULTI_LABEL, REGRESSION)}


def task_of(problem_type: str, num_labels: int | None = None) -> Task:
    """Return the task of a problem type.

    Args:
        problem_type: one of transformers' three words.
        num_labels: C where it is known: a softmax over one class says nothing, so its logit is read as a value.
    """
    task = TASKS[problem_type]
    return REGRESSION if task.exclusive and num_labels == 1 else task


def default_task(num_labels: int) -> Task:
    """Return the task of a model that does not say which it has, as transformers guesses it."""
    return REGRESSION if num_labels == 1 else SINGLE_LABEL
