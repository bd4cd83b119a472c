"""What comes out: frozen dataclasses and nothing else. N texts, M exits (= layers), C classes, H hidden units.

`problem_type` uses transformers' own three words everywhere: `single_label_classification`,
`multi_label_classification`, `regression`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from elbert.exits.gates import Shortcut, SkipGates
    from elbert.exits.tokens import TokenSchedule

# A numpy.ndarray or a torch.Tensor.
Array: TypeAlias = Any

ProblemType = Literal["single_label_classification", "multi_label_classification", "regression"]

# A label of a multi-label text is said from this probability on.
LABEL_CUT = 0.5


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer for one text.

    Attributes:
        label: the class name; for multi-label a tuple of the names with probability >= `LABEL_CUT`; for regression
            the value.
        score: probability of `label`; for multi-label a tuple beside `label`; for regression None.
        exit_layer: 1-based count of layers this text ran, without those it skipped; 0 where its words sufficed.
        layers: layers of the model.
        truncated: True where the text was longer than the model reads and its end was cut off.
        member: which model of a cascade answered, 1 the first; None where there is but one.
        cost: what the text cost a cascade, in layers of its last model; None where layers are alike.
    """

    label: str | float | tuple[str, ...]
    score: float | tuple[float, ...] | None
    exit_layer: int
    layers: int
    truncated: bool
    member: int | None = None
    cost: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object `elbert predict` writes, keys in a fixed order."""
        return {
            "label": list(self.label) if isinstance(self.label, tuple) else self.label,
            "score": list(self.score) if isinstance(self.score, tuple) else self.score,
            "exit_layer": self.exit_layer,
            "layers": self.layers,
            "truncated": self.truncated,
            **({} if self.member is None else {"member": self.member, "cost": self.cost}),
        }


@dataclass(frozen=True, slots=True)
class ExitOutput:
    """What one exit says about the rows of one call, in fp32; rows may stand at different depths.

    All arrays are numpy's, or all are torch's.

    Attributes:
        probs: [rows, C] softmax (single label), sigmoid (multi-label), or the raw value (regression).
        logits: [rows, C] before that.
        pooled: [rows, H] pooled hidden state, for learned policies; None where not asked for.
        problem_type: how to read `probs`.
    """

    probs: Array
    logits: Array
    pooled: Array | None = None
    problem_type: ProblemType = "single_label_classification"


@dataclass(frozen=True, slots=True)
class LayerOutputs:
    """Every exit's output for every text of one full-depth pass, on the CPU in fp32.

    With skip gates a text has fewer: what stands at place k is what was said after it had run k layers, so that an
    exit layer counts layers run there too, and the last of a text is repeated up to M.

    Attributes:
        logits: [N, M, C].
        probs: [N, M, C] softmax (single label), sigmoid (multi-label), or the raw value (regression).
        lengths: [N] tokens per text, special tokens included, int64.
        pooled: [N, M, H] or None.
        problem_type: how to read `probs`.
        words: [N, C] what layer 0 says, as `probs`; None where the model has none.
        tokens: how many tokens a text kept behind each layer meanwhile; None for all.
        gates: which layers a text skipped meanwhile; None for none.
        depth: [N, M] int64, which layer said what stands at each place, where there are gates; M where repeated.
    """

    logits: Tensor
    probs: Tensor
    lengths: Tensor
    pooled: Tensor | None = None
    problem_type: ProblemType = "single_label_classification"
    words: Tensor | None = None
    tokens: TokenSchedule | None = None
    gates: SkipGates | None = None
    depth: Tensor | None = None

    @property
    def shortcut(self) -> Shortcut | None:
        """What the texts left out meanwhile, tokens or layers; None for nothing."""
        return self.tokens or self.gates

    def select(self, rows: Any) -> LayerOutputs:
        """Return the recording of these texts only: [n] positions, or a slice."""
        pooled = None if self.pooled is None else self.pooled[rows]
        words = None if self.words is None else self.words[rows]
        depth = None if self.depth is None else self.depth[rows]
        rest = (self.problem_type, words, self.tokens, self.gates, depth)
        return LayerOutputs(self.logits[rows], self.probs[rows], self.lengths[rows], pooled, *rest)

    def at(self, exit_layer: Any) -> Tensor:
        """Return what was said to each text where it left, [N, C] as `probs`.

        Args:
            exit_layer: [N] from 1 to M, or 0 for what layer 0 said.
        """
        left = np.asarray(exit_layer)
        said = self.probs[np.arange(len(left)), left - 1]
        if self.words is not None:
            by_words = np.flatnonzero(left == 0)
            said[by_words] = self.words[by_words]
        return said


@dataclass(frozen=True, slots=True)
class Word:
    """One word as a reader sees it, of one or several word pieces; or a special token.

    Attributes:
        text: as it stands in the text; the token itself for a special one.
        half: 0 in the text, 1 in its pair, None for a special token.
        start: where it begins in its half, in characters.
        end: where it ends there, exclusive.
        tokens: places of its word pieces among `Trace.tokens`.
    """

    text: str
    half: int | None
    start: int
    end: int
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class WordsTrace:
    """What layer 0, the bag of words, made of one text.

    Attributes:
        probs: [C] what it said, as those of an exit (fp32, CPU).
        normalised_entropy: in [0, 1]; 0 is certain.
        threshold: the policy's; None where the policy lets no text leave here.
        leaves: whether the text leaves here.
        finding: what it said, with the numbers.
        tokens: how many tokens it read, special ones included.
        end: where in the text its reading ends, in characters; None where it read the tokens that the encoder read.
        at_exits: how much of its logits is part of every exit's; 0 for nothing.
        grams: the runs of tokens that weighed most in what it said, see `elbert.tracing.grams`.
    """

    probs: Tensor
    normalised_entropy: float
    threshold: float | None
    leaves: bool
    finding: str
    tokens: int
    end: int | None
    at_exits: float
    grams: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Trace:
    """One text, layer by layer, at full depth, with the layer where it would have left.

    Attributes:
        label: the answer, as a `Prediction` holds it.
        score: its probability, likewise.
        text: what was read, a string or a pair.
        tokens: the word pieces the model read, special tokens included.
        words: the same as a reader sees them, in reading order; every token belongs to one of them.
        truncated: True where the text was longer than the encoder reads, and cut; layer 0 may have read more of it.
        labels: class names; empty for regression.
        problem_type: how to read `probs`.
        probs: [M, C] what each exit said (fp32, CPU).
        normalised_entropy: [M] normalised entropy in [0, 1]; 0 is certain. 1 throughout for regression.
        attention: [M, tokens] from [CLS] to each token in each layer, averaged over heads; rows add up to 1.
        exit_layer: 1-based layer where the policy lets the text leave; 0 where its words sufficed.
        fired: M times, whether the policy let the text leave; beyond the exit, whether it would have.
        steady: M times, whether the policy's window held its criterion; None where it has none, or it is not full yet.
        findings: M phrases, what the policy found at each layer, with the numbers.
        policy: the policy as JSON.
        layer_0: what its words said before the first layer; None where layer 0 has no part in the answer.
        skipped: layers, 1-based, that its gates let it skip, beyond the exit too; there the layer before is repeated.
    """

    label: str | float | tuple[str, ...]
    score: float | tuple[float, ...] | None
    text: str | tuple[str, str]
    tokens: tuple[str, ...]
    words: tuple[Word, ...]
    truncated: bool
    labels: tuple[str, ...]
    problem_type: ProblemType
    probs: Tensor
    normalised_entropy: Tensor
    attention: Tensor
    exit_layer: int
    fired: tuple[bool, ...]
    steady: tuple[bool | None, ...]
    findings: tuple[str, ...]
    policy: dict[str, Any]
    layer_0: WordsTrace | None = None
    skipped: tuple[int, ...] = ()

    @property
    def ran(self) -> int:
        """Layers that the text has run where it leaves, as `Prediction.exit_layer` counts them."""
        return self.exit_layer - sum(layer <= self.exit_layer for layer in self.skipped)

    @property
    def layers(self) -> int:
        """M, the count of exits."""
        return len(self.findings)

    @property
    def stages(self) -> range:
        """Every layer that said something, in order: 1 to M, and 0 before them where layer 0 has a part."""
        return range(0 if self.layer_0 is not None else 1, self.layers + 1)

    @property
    def exit_probs(self) -> Tensor:
        """[C] what was said where the text leaves."""
        return self.said(self.exit_layer)

    @property
    def reason(self) -> str:
        """Why the text leaves where it does: the line of that layer."""
        return self._line(self.exit_layer)

    @property
    def reasons(self) -> tuple[str, ...]:
        """M lines, what the policy made of each layer: whether the text leaves there, or would have, and why."""
        return tuple(map(self._line, range(1, self.layers + 1)))

    def said(self, layer: int) -> Tensor:
        """Return what a layer said, [C]; 0 is layer 0, where there is one."""
        return self.layer_0.probs if layer == 0 and self.layer_0 is not None else self.probs[layer - 1]

    def found(self, layer: int) -> str:
        """Return what the policy made of a layer, with its verdict in front; 0 is layer 0, where there is one."""
        if layer == 0 and self.layer_0 is not None:
            return f"{'leaves' if self.layer_0.leaves else 'goes on'}: {self.layer_0.finding}"
        if layer in self.skipped:
            return self.findings[layer - 1]
        leaves, goes_on = ("leaves", "goes on") if layer <= self.exit_layer else ("would leave", "would go on")
        last = f"{leaves} as no layer is left" if layer == self.layers else goes_on
        return f"{leaves if self.fired[layer - 1] else last}: {self.findings[layer - 1]}"

    def _line(self, layer: int) -> str:
        return f"layer {layer}: {self.found(layer)}"

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object `elbert explain --json` writes; probabilities and attention are rounded to 1e-6."""
        return {
            "label": list(self.label) if isinstance(self.label, tuple) else self.label,
            "score": list(self.score) if isinstance(self.score, tuple) else self.score,
            "text": list(self.text) if isinstance(self.text, tuple) else self.text,
            "tokens": list(self.tokens),
            "words": [{"text": word.text, "half": word.half, "tokens": list(word.tokens)} for word in self.words],
            "truncated": self.truncated,
            "labels": list(self.labels),
            "problem_type": self.problem_type,
            "layers": self.layers,
            "exit_layer": self.exit_layer,
            **({"ran": self.ran, "skipped": list(self.skipped)} if "gates" in self.policy else {}),
            "reason": self.reason,
            "policy": self.policy,
            "probs": _rounded(self.probs),
            "normalised_entropy": [round(value, 6) for value in self.normalised_entropy.tolist()],
            "attention": _rounded(self.attention),
            "fired": list(self.fired),
            "steady": list(self.steady),
            "reasons": list(self.reasons),
            **({} if self.layer_0 is None else {"layer_0": self._layer_0(self.layer_0)}),
        }

    def _layer_0(self, words: WordsTrace) -> dict[str, Any]:
        return {
            "probs": _rounded(words.probs[None])[0],
            "normalised_entropy": round(words.normalised_entropy, 6),
            "threshold": words.threshold,
            "leaves": words.leaves,
            "reason": self._line(0),
            "tokens": words.tokens,
            "end": words.end,
            "at_exits": words.at_exits,
            "grams": [[text, round(weight, 6)] for text, weight in words.grams],
        }


def _rounded(rows: Tensor) -> list[list[float]]:
    return [[round(value, 6) for value in row] for row in rows.tolist()]
