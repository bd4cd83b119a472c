"""Builds the trace of one text from its recorded outputs: replays the policy, and keeps what it said of every layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from elbert.arrays import to_numpy
from elbert.exits import ExitPolicy, Found
from elbert.exits.words import by_words
from elbert.results import ExitOutput, LayerOutputs, Trace, Word
from elbert.tasks import reading


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
    probs, logits = to_numpy(outputs.probs), to_numpy(outputs.logits)
    pooled = None if outputs.pooled is None else to_numpy(outputs.pooled)
    layers = probs.shape[1]
    state = policy.start(1, probs.shape[2])
    fired, findings, steady = [], [], []
    for depth in range(layers):
        read = None if pooled is None else pooled[:, depth]
        output, layer = ExitOutput(probs[:, depth], logits[:, depth], read, outputs.problem_type), np.array([depth + 1])
        policy.check(output, layer)
        found, state = policy.decide(state, output, layer)
        fired.append(bool(policy.leaves(found, layer)))
        findings += policy.explain(found, output, layer, labels)
        steady.append(_steady(found))
    return Trace(
        text=text,
        tokens=tuple(tokens),
        words=tuple(words),
        truncated=truncated,
        labels=tuple(labels),
        problem_type=outputs.problem_type,
        probs=outputs.probs[0],
        normalised_entropy=reading(outputs).normalised_entropy(outputs.probs[0]).clip(max=1),
        attention=attention,
        exit_layer=next((layer for layer, left in enumerate(fired, start=1) if left), layers),
        fired=tuple(fired),
        steady=tuple(steady),
        findings=tuple(findings),
        policy=policy.to_dict(),
        layer_0=_layer_0(outputs, policy, labels),
    )


def _layer_0(outputs: LayerOutputs, policy: ExitPolicy, labels: Sequence[str]) -> str | None:
    """Return in words what layer 0 said, and whether the text leaves there."""
    if outputs.words is None or policy.words is None:
        return None
    task, words = reading(outputs), to_numpy(outputs.words)
    verdict = "leaves before the first layer" if by_words(words, task, policy.words)[0] else "goes on"
    said, sure = task.words(words[0].tolist(), labels), float(task.confidence(words)[0])
    return f"{verdict}: {said}, probability {sure:.4g}, threshold {policy.words:g}"


def _steady(found: Found) -> bool | None:
    """Return what a rule with a window found of it; None where it has none, or it is not full yet."""
    return bool(found["steady"]) if "steady" in found and bool(found["full"]) else None
