"""Builds the trace of one text from its recorded outputs: replays the policy, and keeps what it said of every layer."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from elbert.exits import ExitPolicy
from elbert.exits.elbert import Elbert
from elbert.exits.scores import puzzlement, reading
from elbert.exits.window import CRITERIA
from elbert.results import ExitOutput, LayerOutputs, Trace, Word

# How policies call what they can't name: they know tensors only.
_CLASS = re.compile(r"\bclass (\d+)\b")
_CLASSES = re.compile(r"\blabels (\d+(?:, \d+)*)")


def trace_of(
    outputs: LayerOutputs,
    policy: ExitPolicy,
    *,
    text: str | tuple[str, str],
    tokens: Sequence[str],
    words: Sequence[Word],
    labels: Sequence[str],
    attention: Tensor,
    truncated: bool = False,
) -> Trace:
    """Replay `policy` over the outputs of one text (N = 1) and note what it made of each layer, beyond the exit too.

    Args:
        outputs: of one text at full depth.
        policy: who leaves where.
        text: what was read.
        tokens: its word pieces.
        words: the same as words.
        labels: class names; empty for regression.
        attention: [M, tokens] from `elbert.tracing.attention`.
        truncated: whether the end of the text was cut off.
    """
    layers = outputs.probs.shape[1]
    state = policy.start(1, num_labels=outputs.probs.shape[2])
    fired, reasons = [], []
    for depth in range(layers):
        output = ExitOutput(outputs.probs[:, depth], outputs.logits[:, depth], problem_type=outputs.problem_type)
        layer = torch.tensor([depth + 1])
        leave, state = policy.update(state, output, layer)
        fired.append(bool(leave))
        reasons += policy.explain(output, layer, state, leave | (layer >= layers))
    return Trace(
        text=text,
        tokens=tuple(tokens),
        words=tuple(words),
        truncated=truncated,
        labels=tuple(labels),
        problem_type=outputs.problem_type,
        probs=outputs.probs[0],
        puzzlement=puzzlement(outputs.probs[0], outputs.problem_type),
        attention=attention,
        exit_layer=next((layer for layer, left in enumerate(fired, start=1) if left), layers),
        fired=tuple(fired),
        steady=_steady(policy, outputs),
        reasons=tuple(_named(reason, labels) for reason in reasons),
        policy=policy.to_dict(),
    )


def _steady(policy: ExitPolicy, outputs: LayerOutputs) -> tuple[bool | None, ...]:
    """Return what ELBERT's window says at every layer, by its own criterion; None before it is full."""
    layers = outputs.probs.shape[1]
    if not isinstance(policy, Elbert) or policy.window is None:
        return (None,) * layers
    probs = outputs.probs.float()
    kind = reading(probs, outputs.problem_type)
    criterion, size = CRITERIA[policy.criterion], policy.window
    return tuple(
        None if layer < size else bool(criterion(probs[:, layer - size : layer], kind, policy.tolerance))
        for layer in range(1, layers + 1)
    )


def _named(reason: str, labels: Sequence[str]) -> str:
    """Return a policy's line with class numbers replaced by names."""
    if not labels:
        return reason
    reason = _CLASSES.sub(lambda match: ", ".join(f"“{labels[int(each)]}”" for each in match[1].split(", ")), reason)
    return _CLASS.sub(lambda match: f"“{labels[int(match[1])]}”", reason, count=1)
