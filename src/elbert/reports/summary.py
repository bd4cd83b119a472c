"""The numbers of an evaluation as rows for people, the same on the terminal and on a page."""

from __future__ import annotations

from elbert.evaluation.evaluate import Evaluation
from elbert.exits.wording import policy_words


def summary(result: Evaluation) -> list[tuple[str, str]]:
    """Return (name, value) for every number of an evaluation."""
    early, full, depth, left = ("with exits", "full depth", "mean exit layer", "texts by exit layer")
    if result.models is not None:
        early, full, depth, left = ("cascade", "last model", "mean layers, in the last model's", "texts by model")
    return [
        ("texts", f"{result.n:,}"),
        (f"{result.metric}, {early}", f"{result.score:.4f}"),
        (f"{result.metric}, {full}", f"{result.full_depth_score:.4f}"),
        (depth, f"{result.mean_exit_layer:.2f} of {result.layers}"),
        ("layer speedup", f"{result.layer_speedup:.2f}×"),
        *([] if result.token_layers is None else [("token-layers", f"{result.token_layers:.1%} of full depth's")]),
        ("speedup, wall-clock", f"{result.speedup:.2f}×"),
        ("engine efficiency", f"{result.engine_efficiency:.2f}"),
        (f"seconds, {early}", _seconds(result.seconds, result.n)),
        (f"seconds, {full}", _seconds(result.full_depth_seconds, result.n)),
        *layer_0_words(result.layer_0, result.layer_0_cost),
        (left, " ".join(map(str, result.exit_histogram))),
        ("policy", policy_words(result.policy)),
        ("computed by", f"{result.backend}, {result.dtype}, {result.device}, {result.threads} threads"),
        ("batch size, rounds", f"{result.batch_size}, median of {result.repeats}"),
    ]


def layer_0_words(left: int | None, cost: float | None) -> list[tuple[str, str]]:
    """Return the row on layer 0, or none where it is off."""
    if left is None or cost is None:
        return []
    return [("texts at layer 0", f"{left:,}; {cost_words(cost)}")]


def cost_words(cost: float) -> str:
    """Return what layer 0 costs, in words; `cost` in layers."""
    return f"it costs every text as much as {cost:.3f} layers"


def _seconds(seconds: float, texts: int) -> str:
    return f"{seconds:.3f} ({texts / seconds:,.0f} texts/s)"
