"""Everything a fine-tuning run is decided by, in one frozen record. Holds values and rules, trains nothing."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, ClassVar

from elbert.errors import UsageError
from elbert.metadata import check_heads
from elbert.runs.settings import MOST, Settings
from elbert.seeds import check_seed

METRIC_FOR_BEST = ("final", "mean-exit")
DTYPES = ("auto", "float32", "bfloat16", "float16")
CLASS_WEIGHTS = ("balanced",)

# The paper's rate, for whatever was pretrained elsewhere. A checkpoint that takes another says so in its `config.json`,
# and whatever is made of it says so too.
LEARNING_RATE, OWN_RATE = 3e-5, "fine_tuning_learning_rate"
# Likewise, how many times that rate its head is trained at.
OWN_HEAD_RATE = "fine_tuning_head_rate"
# The rate itself of a head that starts from nothing over an encoder from elsewhere: at the encoder's own, early exits
# stay far behind what their states could tell.
FRESH_HEADS = 3e-3

# Settings that change how a run is watched or saved, never what comes out of it: a resumed run may change them.
WITHOUT_EFFECT = ("report_to", "save_steps")


@dataclass(frozen=True)
class TrainSettings(Settings):
    """One run's settings; the defaults are the paper's where it says.

    Attributes:
        scheme: how the layers' losses are weighed, a name of `elbert schemes`.
        scheme_options: its options, such as `{"pull": 2.0}`.
        epochs: passes over the data.
        batch_size: texts of a step.
        gradient_accumulation_steps: batches whose gradients are meaned into one step: memory for time.
        learning_rate: peak rate of the model; None takes what the checkpoint was made for (`fine_tuning_learning_rate`
            in its `config.json`), else 3e-5.
        head_rate: how many times that rate the exits' pooler and classifier are trained at; None takes what the
            checkpoint's `config.json` says as `fine_tuning_head_rate`. Where it names no rate at all, a head that
            starts from nothing is trained at 3e-3, which is 100 times the usual 3e-5. Else 1.
        warmup: share of the steps over which the rate rises from 0; it then falls linearly to 0.
        weight_decay: AdamW's, on matrices.
        dropout: of hidden states and attention; None takes 0 for ALBERT (as in the paper) and the checkpoint's own
            elsewhere.
        classifier_dropout: before the classifier.
        max_length: tokens read of a text, special tokens included; None takes 128, or 256 where more than a quarter of
            the texts are longer.
        seed: of every random choice: the same seed gives the same model.
        dtype: of the matrix products: `auto`, `float32`, `bfloat16` or `float16`; auto is bfloat16 where the machine
            computes it, float16 with a scaled loss on other GPUs, else float32. The weights are float32 always.
        class_weight: `balanced`: a row counts as rows / (classes · rows of its class), so that every class counts as
            much as every other, however rare; None for all rows alike.
        metric: scored on the dev split, such as `accuracy`, `f1_macro`, `matthews` or `pearson`; None takes the
            problem's own, or `f1_macro` where a class is rare.
        metric_for_best: what the best epoch is best by: the `final` exit, or the mean over all, `mean-exit`. Of
            evaluations within a standard error of the highest score the last is taken.
        eval_steps: steps between evaluations within an epoch (there is always one at its end); None for none.
        early_stopping: evaluations without a new best after which to stop; None for no such end.
        save_steps: steps between checkpoints within an epoch (there is always one at its end).
        report_to: an experiment tracker by transformers' name, or `none`.
        teacher_weight: the part of every exit's loss that the teacher's answers make, 0 to 1; the labels make the rest.
        temperature: at which the teacher's answers are learnt: above 1 the less likely classes count more.
        heads: kind of exit heads, see `elbert.modeling.heads`. None leaves a trained model with its own kind, is `mean`
            for a checkpoint from elsewhere that has layers of their own and no head for these classes, since its first
            layers gather nothing in [CLS], and else `shared`.
        words: fit layer 0, a linear model on the texts' own words, at the end; not for values.
        words_at_exits: add what layer 0 says to every exit's logits, with one weight fitted on the dev split; full
            depth is then the sum, which other tools that load the checkpoint don't compute. None does so where many
            texts are cut off, so that layer 0 reads more of them than the encoder, and the dev split shows a gain.
        leap: how strongly every depth's pooled state is pulled to the last one's (LEAP, arXiv 2605.01058); 0 for none.
        length_drop: greatest share of a text's tokens that each layer drops in three further passes of every step,
            which learn to say what all tokens say (LengthDrop, arXiv 2010.07003, with 0.2); 0 for none.
    """

    about: ClassVar[str] = "training setting"

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
    length_drop: float = 0.0
    heads: str | None = None
    words: bool = True
    words_at_exits: bool | None = None

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            UsageError: one is out of range; the message says what is allowed.
        """
        from elbert.training import schemes

        schemes.check_options(schemes.get(self.scheme), self.scheme_options)
        counts = ("epochs", "batch_size", "gradient_accumulation_steps", "save_steps", "eval_steps")
        self.check(*counts, low=1, high=MOST)
        self.check("early_stopping", low=1)
        self.check("max_length", low=3)
        check_seed(self.seed)
        self.check("weight_decay", "leap", low=0)
        self.check("length_drop", low=0, high=0.9)
        self.check("warmup", "dropout", "classifier_dropout", "teacher_weight", low=0, high=1)
        self.check_positive("learning_rate", "head_rate", "temperature")
        if self.heads is not None:
            check_heads(self.heads)
        if self.words_at_exits and not self.words:
            raise UsageError("words_at_exits is true and words false; allowed: words true, for there is nothing to add")
        self.check_choice(metric_for_best=METRIC_FOR_BEST, dtype=DTYPES, class_weight=CLASS_WEIGHTS)

    def resolved(self, config: Any, *, heads: str = "shared", fresh_head: bool = False) -> TrainSettings:
        """Return the settings with everything automatic decided but the metric, for one model and this machine.

        Args:
            config: the model's transformers configuration.
            heads: the kind that the model has.
            fresh_head: whether they start from nothing.

        Raises:
            UsageError: the dtype asked for is none of this machine's, or the checkpoint's own rate is no rate.
        """
        from elbert.runs.precision import choose_dtype

        rate = self.learning_rate or _own(config, OWN_RATE, LEARNING_RATE)
        from_nothing = fresh_head and not names_its_rate(config)
        head_rate = _own(config, OWN_HEAD_RATE, max(1.0, FRESH_HEADS / rate) if from_nothing else 1.0)
        dropout = 0.0 if config.model_type == "albert" else None
        return dataclasses.replace(
            self,
            learning_rate=rate,
            head_rate=self.head_rate or head_rate,
            heads=heads,
            dropout=dropout if self.dropout is None else self.dropout,
            dtype=choose_dtype(self.dtype, scaled=True),
        )


def names_its_rate(config: Any) -> bool:
    """Return whether a checkpoint says how it is to be fine-tuned, as those that this library made do."""
    return getattr(config, OWN_RATE, None) is not None


def _own(config: Any, name: str, otherwise: float) -> float:
    """Return a rate that a checkpoint names for itself."""
    rate = getattr(config, name, None) or otherwise
    if not isinstance(rate, (int, float)) or not rate > 0:
        raise UsageError(f"{name} in config.json is {rate!r}; allowed: a number above 0")
    return float(rate)
