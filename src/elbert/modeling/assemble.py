"""From tensors by their checkpoint names to the matrices the engine runs; of modules and files this knows nothing."""

from __future__ import annotations

from typing import Any

from elbert.metadata import HeadKind
from elbert.modeling.families import Family
from elbert.modeling.families.tensors import Tensors
from elbert.modeling.heads import head_weights
from elbert.modeling.weights import EncoderWeights
from elbert.results import ProblemType
from elbert.tasks import default_task, task_of


def encoder_weights(
    family: Family, config: Any, tensors: Tensors, exit_heads: Tensors | None, kind: HeadKind
) -> EncoderWeights:
    """Return a whole classifier as plain matrices; they share memory with `tensors`, except the fused qkv matrices.

    Args:
        family: the encoder's family.
        config: a transformers configuration, or anything with the fields of `family.fields`.
        tensors: every tensor of `family.shapes(config)`: parameters of a module, or the content of a checkpoint.
        exit_heads: those of the exits before the last, see `heads.ExitHeads`; None where they share the last head.
        kind: of the exit heads.
    """
    return EncoderWeights(
        embedding=family.embedding_weights(tensors, config),
        layers=family.layer_weights(tensors, config),
        heads=head_weights(family, tensors, exit_heads, config, kind),
        max_length=family.max_length(config),
        problem_type=problem_type_of(config),
        id2label={int(index): str(name) for index, name in config.id2label.items()},
    )


def problem_type_of(config: Any) -> ProblemType:
    """Return how to read the logits, by transformers' own guess where the configuration does not say.

    Raises:
        UsageError: it says what is no problem type.
    """
    return (task_of(config.problem_type) if config.problem_type else default_task(len(config.id2label))).problem_type
