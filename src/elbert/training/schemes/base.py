"""What a loss scheme is: how the losses of the M exits become the one number that training minimises.

A scheme holds its own trainable scalars, if it has any; the trainer puts them into the optimiser, into checkpoints and
into the finished model's `elbert.json`. It runs no encoder and knows no data set.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from elbert.errors import UsageError, did_you_mean
from elbert.exits import ExitPolicy
from elbert.tasks import Task, task_of


class LossScheme(nn.Module):
    """Base of every scheme: built for a model of M exits, `num_layers`, with options of its own; called once a step.

    Attributes:
        name: what users call it.
        summary: one line for `elbert schemes`.
        citation: the paper.
        staged: whether it looks at more than the exits' losses, so that `begin` has to come before the first step.
        without_labels: whether texts without a label teach it something where nobody else teaches.
        reads_one_label: what it does with the one label of a text, where it is for such data alone.
        num_layers: exits of the model, M.
        learning_rate: of the scheme's own parameters; None where it has none.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    citation: ClassVar[str]
    staged: ClassVar[bool] = False
    without_labels: ClassVar[bool] = False
    reads_one_label: ClassVar[str | None] = None
    learning_rate: float | None = None
    fixed: Tensor

    def __init__(self, num_layers: int) -> None:
        super().__init__()
        if num_layers < 1:
            raise UsageError(f"a loss scheme needs at least 1 layer, not {num_layers}")
        self.num_layers = num_layers
        self.hidden_size: int | None = None  # of units that are trained along, once they are built
        self.steps = 0
        self.task: Task = task_of("single_label_classification")

    def build(self, hidden_size: int) -> None:
        """Make the units that are trained along with the model, where the scheme has any.

        Args:
            hidden_size: H of the pooled states they read.
        """
        del hidden_size

    def begin(self, model: Any, steps: int) -> None:
        """Meet the model before the optimiser is made; a scheme that asks something of it overrides this.

        Args:
            model: the `MultiExitModel` to be trained.
            steps: optimiser steps of the whole run.

        Raises:
            UsageError: the model cannot be trained this way.
        """
        self.steps, self.task = steps, task_of(model.problem_type, model.num_labels)
        if self.reads_one_label is not None and not self.task.exclusive:
            raise UsageError(
                f"scheme {self.name!r} {self.reads_one_label}, so it is for one label a text; the data is "
                f"{model.problem_type}: take another scheme, such as elbert_balanced"
            )
        self.build(int(model.config.hidden_size))

    def before_step(self, model: Any, step: int) -> None:
        """Set up the model for the next step; for schemes that hold parts of it still.

        Args:
            model: as in `begin`.
            step: optimiser steps done so far.
        """
        del model, step

    def whole(self, step: int) -> bool:
        """Tell whether a model of this step has been trained in every part, so that it may be the best one."""
        del step
        return True

    def policies(self) -> dict[str, ExitPolicy]:
        """Return the exit policies that were learnt along with the model, to be saved with it, by name."""
        return {}

    def fix(self, weights: Tensor) -> None:
        """Keep weights [M] that nobody trains as `fixed`, on the model's device; no checkpoint holds them."""
        self.register_buffer("fixed", weights, persistent=False)

    def weights(self) -> Tensor:
        """Return how much each layer's loss counts now, [M], with gradient where it is trained; by default `fixed`.

        Of schemes of two stages in the second; where a layer counts differently for every text, before that is known.
        """
        return self.fixed

    def forward(self, layer_losses: Tensor, output: Any = None, labels: Tensor | None = None, step: int = 0) -> Tensor:  # noqa: ARG002
        """Return the loss of one batch, a scalar.

        Args:
            layer_losses: each exit's own loss on the batch, [M], fp32.
            output: the model's `MultiExitOutput`, for schemes that look at logits or pooled states.
            labels: the batch's labels, for schemes that need them again.
            step: optimiser steps done so far, for schemes that alternate.
        """
        return (self.weights() * layer_losses).sum()

    def log(self) -> dict[str, float]:
        """Return what is worth a line in the log: by default the weights, as `weight_1` … `weight_M`."""
        return {f"weight_{layer}": value for layer, value in enumerate(self.weights().tolist(), start=1)}

    def options(self) -> dict[str, Any]:
        """Return the keyword arguments this scheme was made with."""
        return {name: getattr(self, name) for name in option_names(type(self))}

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """Return the optimiser groups of the scheme's own parameters, without weight decay.

        Args:
            learning_rate: the model's, for schemes that name none of their own.
        """
        own = list(self.parameters())
        rate = learning_rate if self.learning_rate is None else self.learning_rate
        return [{"params": own, "lr": rate, "weight_decay": 0.0}] if own else []

    def to_dict(self) -> dict[str, Any]:
        """Return the scheme as JSON: name, options, learned state, and the weights it stands at."""
        return {
            "name": self.name,
            "num_layers": self.num_layers,
            **({} if self.hidden_size is None else {"hidden_size": self.hidden_size}),
            "options": self.options(),
            "state": {name: value.tolist() for name, value in self.state_dict().items()},
            "weights": self.weights().tolist(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over the learned state of `to_dict`.

        Raises:
            UsageError: it belongs to another scheme or another number of layers.
        """
        own = self.state_dict()
        tensors = {name: torch.tensor(value, dtype=torch.float32) for name, value in state.items()}
        if {n: v.shape for n, v in tensors.items()} != {n: v.shape for n, v in own.items()}:
            raise UsageError(
                f"the saved state of scheme {self.name!r} does not fit a model of {self.num_layers} layers"
            )
        self.load_state_dict(tensors)


def option_names(scheme: type[LossScheme]) -> Iterator[str]:
    """Yield the names of a scheme's options: the keyword arguments of its constructor."""
    parameters = inspect.signature(scheme).parameters.values()
    return (parameter.name for parameter in parameters if parameter.kind is inspect.Parameter.KEYWORD_ONLY)


def check_number(scheme: str, option: str, value: Any, low: float, high: float = float("inf")) -> float:
    """Return an option's value as a float.

    Raises:
        UsageError: it is no number, or not within [low, high].
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise UsageError(f"scheme {scheme!r}: {option} is {value!r}; allowed: a number from {low:g} to {high:g}")
    return float(value)


def check_options(scheme: type[LossScheme], options: dict[str, Any]) -> None:
    """Check that every option exists.

    Raises:
        UsageError: one does not; the message names the closest.
    """
    known = list(option_names(scheme))
    for option in options:
        if option not in known:
            allowed = did_you_mean(option, known) if known else "; it has none"
            raise UsageError(f"scheme {scheme.name!r} has no option {option!r}{allowed}")


def encoder_matrices(model: Any) -> list[Tensor]:
    """Return the weight matrices of a model's encoder that are trained, without those of its head."""
    dense, _, out = model.family.head(model.backbone)
    head = {id(dense.weight), id(out.weight)}
    trained = (each for each in model.backbone.parameters() if each.requires_grad and each.ndim == 2)
    return [each for each in trained if id(each) not in head]


def gradient(loss: Tensor, matrices: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
    """Return the gradient of a loss by every matrix, None where it does not depend on it; the graph is kept."""
    found: tuple[Tensor | None, ...] = torch.autograd.grad(loss, matrices, retain_graph=True, allow_unused=True)
    return found


def dot(first: Sequence[Tensor | None], second: Sequence[Tensor | None]) -> float:
    """Return the scalar product of two gradients, summed in fp64."""
    pairs = zip(first, second, strict=True)
    return sum((float((a.double() * b.double()).sum()) for a, b in pairs if a is not None and b is not None), 0.0)
