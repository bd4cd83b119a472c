"""Builds the trace of one text from its recorded outputs: replays the policy, and keeps what it said of every layer."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from elbert.arrays import to_numpy
from elbert.exits import ExitPolicy, Found
from elbert.exits.words import by_words
from elbert.results import ExitOutput, LayerOutputs, Trace, Word, WordsTrace
from elbert.tasks import Task, reading


def skipped_in(outputs: LayerOutputs) -> tuple[int, ...]:
    """Return which layers, 1-based, the text of a recording (N = 1) skipped."""
    if outputs.depth is None:
        return ()
    return tuple(sorted(set(range(1, outputs.depth.shape[1] + 1)) - set(outputs.depth[0].tolist())))


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
    layer_0: WordsTrace | None = None,
) -> Trace:
    """Replay `policy` over the outputs of one text (N = 1) and note what it made of each layer, beyond the exit too.

    At a layer that the text skips stands what the last one before it said.

    Args:
        outputs: of one text at full depth.
        policy: who leaves where.
        text: what was read.
        tokens: its word pieces.
        words: the same as words.
        labels: class names; empty for regression.
        attention: [M, tokens] from `elbert.tracing.attention`.
        truncated: whether the encoder read a part of the text only.
        layer_0: from `words_trace`.
    """
    layers, skipped = outputs.probs.shape[1], skipped_in(outputs)
    ran = [layer for layer in range(1, layers + 1) if layer not in skipped]
    said_at = [bisect(ran, layer) - 1 for layer in range(1, layers + 1)]  # the place in the recording
    probs, logits = to_numpy(outputs.probs)[:, said_at], to_numpy(outputs.logits)[:, said_at]
    pooled = None if outputs.pooled is None else to_numpy(outputs.pooled)[:, said_at]
    task, state = reading(outputs), policy.start(1, probs.shape[2])
    fired: list[bool] = []
    findings: list[str] = []
    steady: list[bool | None] = []
    for depth in range(layers):
        if depth + 1 in skipped:
            fired.append(False)
            findings.append("skipped by its gate")
            steady.append(None)
            continue
        read = None if pooled is None else pooled[:, depth]
        output, layer = ExitOutput(probs[:, depth], logits[:, depth], read, outputs.problem_type), np.array([depth + 1])
        policy.check(output, layer)
        found, state = policy.decide(state, output, layer)
        fired.append(bool(policy.leaves(found, layer)))
        findings += policy.explain(found, output, layer, labels)
        steady.append(_steady(found))
    latest = policy.latest(layers)
    last = ran[bisect(ran, latest) - 1]
    if last < latest and not fired[last - 1]:
        fired[last - 1] = True
        findings[last - 1] += f"; its gates lead beyond layer {latest}, where every text leaves"
    first = next((layer for layer, left in enumerate(fired, start=1) if left), layers)
    exit_layer = 0 if layer_0 is not None and layer_0.leaves else first
    [(label, score)] = task.answers(outputs.at([said_at[exit_layer - 1] + 1 if exit_layer else 0]), labels)
    return Trace(
        label=label,
        score=score,
        text=text,
        tokens=tuple(tokens),
        words=tuple(words),
        truncated=truncated,
        labels=tuple(labels),
        problem_type=outputs.problem_type,
        probs=outputs.probs[0, said_at],
        normalised_entropy=task.normalised_entropy(outputs.probs[0, said_at]).clip(max=1),
        attention=attention,
        exit_layer=exit_layer,
        fired=tuple(fired),
        steady=tuple(steady),
        findings=tuple(findings),
        policy=policy.to_dict(),
        layer_0=layer_0,
        skipped=skipped,
    )


def words_trace(
    probs: Tensor,
    task: Task,
    threshold: float | None,
    labels: Sequence[str],
    *,
    tokens: int,
    end: int | None,
    at_exits: float,
    grams: tuple[tuple[str, float], ...] = (),
) -> WordsTrace:
    """Return what layer 0 made of one text in whose answer it has a part, see `WordModel.asked`.

    Args:
        probs: [C] what it says.
        task: how they are read.
        threshold: the policy's; None where no text leaves here.
        labels: class names.
        tokens: how many it read.
        end: where in the text they end, see `elbert.words.end_of_words`.
        at_exits: how much of its logits the exits' contain.
        grams: from `elbert.tracing.grams`.
    """
    found = f"{task.quoted(probs.tolist(), labels)}, probability {float(task.confidence(probs)):.4g}"
    leaves = threshold is not None and bool(by_words(to_numpy(probs[None]), task, threshold)[0])
    limit = "no threshold, so no text leaves here" if threshold is None else f"threshold {threshold:g}"
    entropy = float(task.normalised_entropy(probs).clip(max=1))
    return WordsTrace(probs, entropy, threshold, leaves, f"{found}, {limit}", tokens, end, at_exits, grams)


def _steady(found: Found) -> bool | None:
    """Return what a rule with a window found of it; None where it has none, or it is not full yet."""
    return bool(found["steady"]) if "steady" in found and bool(found["full"]) else None
