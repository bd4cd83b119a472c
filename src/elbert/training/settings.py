"""Everything a fine-tuning run is decided by, in one frozen record. Holds values and rules, trains nothing."""

from __future__ import annotations

import dataclasses
import types
import typing
from dataclasses import dataclass, field
from typing import Any

from elbert.errors import UsageError, did_you_mean
from elbert.metadata import check_heads
from elbert.runs.precision import choose_dtype
from elbert.seeds import check_seed
from elbert.training import schemes

METRIC_FOR_BEST = ("final", "mean-exit")
DTYPES = ("auto", "float32", "bfloat16", "float16")
CLASS_WEIGHTS = ("balanced",)

# The paper's rate, for whatever was pretrained elsewhere. A checkpoint that takes another says so in its `config.json`,
# and whatever is made of it says so too.
LEARNING_RATE, OWN_RATE = 3e-5, "fine_tuning_learning_rate"
# Likewise, how many times that rate its head is trained at.
OWN_HEAD_RATE = "fine_tuning_head_rate"

# No count is larger: beyond it torch's and transformers' own integers overflow.
_MOST = 2**31 - 1

# Settings that change how a run is watched or saved, never what comes out of it: a resumed run may change them.
WITHOUT_EFFECT = ("report_to", "save_steps")


@dataclass(frozen=True)
class TrainSettings:
    """One run's settings; the defaults are the paper's where it says.

    Attributes:
        scheme: name of the loss scheme.
        scheme_options: its options, such as `{"pull": 2.0}`.
        epochs: passes over the training data, at least 1.
        batch_size: texts of a batch.
        gradient_accumulation_steps: batches whose gradients are meaned into one step: memory for time.
        learning_rate: peak of the model's rate; None takes what the checkpoint's `config.json` says as
            `fine_tuning_learning_rate` (in the bundled ones, too), else 3e-5.
        head_rate: how many times that rate the exits' pooler and classifier are trained at; None takes what the
            checkpoint's `config.json` says as `fine_tuning_head_rate`, else 1.
        warmup: share of the steps over which the rate rises from 0; it then falls linearly to 0.
        weight_decay: AdamW's, on matrices.
        dropout: of hidden states and attention; None takes 0 for ALBERT (as in the paper) and the checkpoint's own
            elsewhere.
        classifier_dropout: before the classifier.
        max_length: tokens read of a text, special tokens included; None takes 128, or 256 where 128 would cut more
            than a quarter of the texts to learn from.
        seed: of every random choice.
        dtype: of the matrix products; `auto` takes bfloat16 where the machine computes it, float16 with a scaled loss
            on other GPUs, else float32. The weights are float32 always.
        class_weight: `balanced` weighs every row by rows / (classes · rows of its class), so that each class counts as
            much as every other; None weighs all rows alike. For one label a text.
        metric: scored on the dev split; None takes accuracy (macro F1 where a class is rare, see
            `elbert.training.balance`), micro F1 or Pearson's correlation.
        metric_for_best: which exit decides the best checkpoint: the `final` one, or the mean over all (`mean-exit`).
            Of evaluations within a standard error of the highest score the last is taken.
        eval_steps: steps between evaluations within an epoch (there is always one at its end); None for none.
        early_stopping: evaluations without a new best after which to stop; None for never.
        save_steps: steps between checkpoints within an epoch (there is always one at its end).
        report_to: transformers' name of an experiment tracker, or `none`.
        teacher_weight: the part of every exit's loss that a teacher's answers make, where there is a teacher; the
            labels make the rest.
        temperature: at which those answers are learnt: above 1 the less likely classes count more.
        heads: kind of exit heads, see `elbert.modeling.heads`; `shared` leaves a trained model with its own kind.
        words: fit layer 0, a linear model on the texts' own words, at the end; not for values.
        words_at_exits: add what layer 0 says to every exit's logits, with one weight fitted on the dev split; full
            depth is then the sum, which other tools that load the checkpoint don't compute.
        leap: weight of the pull of every depth's pooled state to the last one's (LEAP, arXiv 2605.01058); 0 for none.
    """

    scheme: str = "elbert_balanced"
    scheme_options: dict[str, Any] = field(default_factory=dict)
    epochs: int = 3
    batch_size: int = 32
    gradient_accumulation_steps: int = 1
    learning_rate: float | None = None
    head_rate: float | None = None
    warmup: float = 0.06
    weight_decay: float = 0.01
    dropout: float | None = None
    classifier_dropout: float = 0.1
    max_length: int | None = None
    seed: int = 0
    dtype: str = "auto"
    class_weight: str | None = None
    metric: str | None = None
    metric_for_best: str = "final"
    eval_steps: int | None = None
    early_stopping: int | None = None
    save_steps: int = 500
    report_to: str = "none"
    teacher_weight: float = 0.5
    temperature: float = 2.0
    leap: float = 0.0
    heads: str = "shared"
    words: bool = True
    words_at_exits: bool = False

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            UsageError: one is out of range; the message says what is allowed.
        """
        schemes.check_options(schemes.get(self.scheme), self.scheme_options)
        for name in ("epochs", "batch_size", "gradient_accumulation_steps", "save_steps", "eval_steps"):
            self._check_range(name, 1, _MOST)
        self._check_range("early_stopping", 1)
        self._check_range("max_length", 3)
        check_seed(self.seed)
        for name in ("weight_decay", "leap"):
            self._check_range(name, 0)
        for name in ("warmup", "dropout", "classifier_dropout", "teacher_weight"):
            self._check_range(name, 0, 1)
        for name in ("learning_rate", "head_rate", "temperature"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UsageError(f"{name} is {value}; allowed: more than 0")
        check_heads(self.heads)
        if self.words_at_exits and not self.words:
            raise UsageError("words_at_exits is true and words false; allowed: words true, for there is nothing to add")
        choices = {"metric_for_best": METRIC_FOR_BEST, "dtype": DTYPES, "class_weight": (None, *CLASS_WEIGHTS)}
        for name, allowed in choices.items():
            value = getattr(self, name)
            if value not in allowed:
                raise UsageError(f"unknown {name} {value!r}{did_you_mean(str(value), filter(None, allowed))}")

    def _check_range(self, name: str, low: float, high: float = float("inf")) -> None:
        value = getattr(self, name)
        if value is not None and not low <= value <= high:
            allowed = f"at least {low}" if high in (float("inf"), _MOST) else f"{low} to {high}"
            allowed += f" and at most {_MOST}" if value > _MOST == high else ""
            raise UsageError(f"{name} is {value}; allowed: {allowed}")

    def resolved(self, config: Any) -> TrainSettings:
        """Return the settings with everything automatic decided but the metric, for one model and this machine.

        Args:
            config: the model's transformers configuration.

        Raises:
            UsageError: the dtype asked for is none of this machine's, or the checkpoint's own rate is no rate.
        """
        rate, head_rate = _own(config, OWN_RATE, LEARNING_RATE), _own(config, OWN_HEAD_RATE, 1.0)
        dropout = 0.0 if config.model_type == "albert" else None
        return dataclasses.replace(
            self,
            learning_rate=self.learning_rate or rate,
            head_rate=self.head_rate or head_rate,
            dropout=dropout if self.dropout is None else self.dropout,
            dtype=choose_dtype(self.dtype, scaled=True),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON-ready values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainSettings:
        """Make settings from a dictionary; what it leaves out keeps its default.

        Raises:
            UsageError: an unknown key (the message names the closest) or a value of the wrong type.
        """
        hints = typing.get_type_hints(cls)
        for key, value in values.items():
            if key not in hints:
                raise UsageError(f"unknown training setting {key!r}{did_you_mean(key, hints)}")
            if not _fits(value, hints[key]):
                raise UsageError(f"training setting {key} is {value!r}; allowed: {_type_name(hints[key])}")
        return cls(**values)


def _own(config: Any, name: str, otherwise: float) -> float:
    """Return a rate that a checkpoint names for itself."""
    rate = getattr(config, name, None) or otherwise
    if not isinstance(rate, (int, float)) or not rate > 0:
        raise UsageError(f"{name} in config.json is {rate!r}; allowed: a number above 0")
    return float(rate)


def _members(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)


def _fits(value: Any, hint: Any) -> bool:
    kinds = tuple(typing.get_origin(member) or member for member in _members(hint))
    if isinstance(value, bool):  # which Python counts as a whole number
        return bool in kinds
    return isinstance(value, kinds) or (float in kinds and isinstance(value, int))


def _type_name(hint: Any) -> str:
    return " or ".join(
        "null" if member is types.NoneType else str(getattr(member, "__name__", member)) for member in _members(hint)
    )
