"""Builds the trace of one text from its recorded outputs: replays the policy, and keeps what it said of every layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from elbert.exits import ExitPolicy, Found, normalised_entropy
from elbert.exits.ops import to_numpy
from elbert.exits.scores import confidence
from elbert.results import ExitOutput, LayerOutputs, Trace, Word
from elbert.tasks import task_of


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
        normalised_entropy=normalised_entropy(outputs.probs[0], outputs.problem_type).clip(max=1),
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
    task, row = task_of(outputs.problem_type), outputs.words[0]
    sure = float(confidence(to_numpy(outputs.words), outputs.problem_type)[0])
    verdict = "leaves before the first layer" if sure > policy.words else "goes on"
    return f"{verdict}: {task.words(row.tolist(), labels)}, probability {sure:.4g}, threshold {policy.words:g}"


def _steady(found: Found) -> bool | None:
    """Return what a rule with a window found of it; None where it has none, or it is not full yet."""
    return bool(found["steady"]) if "steady" in found and bool(found["full"]) else None
