"""What comes out: frozen dataclasses and nothing else. N texts, M exits (= layers), C classes, H hidden units.

`problem_type` uses transformers' own three words everywhere: `single_label_classification`,
`multi_label_classification`, `regression`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

ProblemType = Literal["single_label_classification", "multi_label_classification", "regression"]


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer for one text.

    Attributes:
        label: the class name; for multi-label a tuple of the names with probability >= 0.5; for regression the value.
        score: probability of `label`; for multi-label a tuple beside `label`; for regression None.
        exit_layer: 1-based count of layers this text ran.
        layers: layers of the model.
        truncated: True where the text was longer than the model reads and its end was cut off.
    """

    label: str | float | tuple[str, ...]
    score: float | tuple[float, ...] | None
    exit_layer: int
    layers: int
    truncated: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object `elbert predict` writes, keys in a fixed order."""
        return {
            "label": list(self.label) if isinstance(self.label, tuple) else self.label,
            "score": list(self.score) if isinstance(self.score, tuple) else self.score,
            "exit_layer": self.exit_layer,
            "layers": self.layers,
            "truncated": self.truncated,
        }


@dataclass(frozen=True, slots=True)
class ExitOutput:
    """What one exit says about the rows of one call; rows may stand at different depths.

    Attributes:
        probs: [rows, C] softmax (single label), sigmoid (multi-label), or the raw value (regression).
        logits: [rows, C] before that.
        pooled: [rows, H] pooled hidden state, for learned policies; None where not asked for.
        problem_type: how to read `probs`.
    """

    probs: Tensor
    logits: Tensor
    pooled: Tensor | None = None
    problem_type: ProblemType = "single_label_classification"


@dataclass(frozen=True, slots=True)
class LayerOutputs:
    """Every exit's output for every text of one full-depth pass, on the CPU in fp32.

    Attributes:
        logits: [N, M, C].
        probs: [N, M, C] softmax (single label), sigmoid (multi-label), or the raw value (regression).
        lengths: [N] tokens per text, special tokens included, int64.
        pooled: [N, M, H] or None.
        problem_type: how to read `probs`.
    """

    logits: Tensor
    probs: Tensor
    lengths: Tensor
    pooled: Tensor | None = None
    problem_type: ProblemType = "single_label_classification"


@dataclass(frozen=True, slots=True)
class Trace:
    """One text, layer by layer, at full depth, with the layer where it would have left.

    Attributes:
        tokens: the word pieces the model read, special tokens included.
        labels: class names; empty for regression.
        probs: [M, C] what each exit said (fp32, CPU).
        puzzlement: [M] normalised entropy in [0, 1]; 0 is certain. 1 throughout for regression.
        exit_layer: 1-based layer where the policy lets the text leave.
        reasons: M lines, what the policy made of each layer.
        policy: the policy as JSON.
    """

    tokens: tuple[str, ...]
    labels: tuple[str, ...]
    probs: Tensor
    puzzlement: Tensor
    exit_layer: int
    reasons: tuple[str, ...]
    policy: dict[str, Any]
