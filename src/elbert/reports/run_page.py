"""The page of a run over a data set: `elbert evaluate --report`, `elbert explain --data` and the demo all show this."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from elbert.exits import replay
from elbert.exits.wording import policy_words
from elbert.reports import evidence, run_charts, texts
from elbert.reports.filters import percent, shortened
from elbert.reports.page import page
from elbert.reports.plots import DepthCurve
from elbert.reports.run import Run, Verdicts
from elbert.reports.story import curves_of
from elbert.reports.summary import layer_0_words, summary
from elbert.scoring.metrics import metric_name, score

if TYPE_CHECKING:
    from elbert.classifier import Classifier
    from elbert.data import TextDataset
    from elbert.evaluation.evaluate import Evaluation
    from elbert.scoring.curves import OperatingPoint


@dataclass(frozen=True)
class Report:
    """Everything that stands on the page.

    Attributes:
        title: heading.
        lead: what was done, in a sentence or two.
        run: who left where.
        scores: [M] score of each layer's exit; empty without labels.
        points: other settings of the policy; likewise.
        metric: what the score is.
        score: with exits; None without labels.
        evaluation: the timed numbers, where there are any.
        found: the model's calibrated policies.
        dtype: in which precision it ran.
        backend: what computed.
        facts: rows of the table "how it was done".
        notes: things the reader has to know, one paragraph each.
    """

    title: str
    lead: str
    run: Run
    scores: Sequence[float] = ()
    points: Sequence[OperatingPoint] = ()
    metric: str = ""
    score: float | None = None
    evaluation: Evaluation | None = None
    found: Sequence[evidence.Evidence] = ()
    dtype: str = ""
    backend: str = ""
    facts: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = ()


def report_of(
    classifier: Classifier,
    dataset: TextDataset,
    *,
    title: str,
    lead: str,
    evaluation: Evaluation | None = None,
    metric: str | None = None,
    batch_size: int = 32,
    facts: Sequence[tuple[str, str]] = (),
    notes: Sequence[str] = (),
    on_texts: Callable[[int], object] | None = None,
) -> Report:
    """Run every text to full depth once, and return what the page of the run shows.

    Args:
        classifier: with the policy whose exits are shown.
        dataset: texts, with or without labels.
        title: heading of the page.
        lead: what was done, in a sentence or two.
        evaluation: of the same classifier on the same texts, where it was timed.
        metric: its name; None takes the problem type's own.
        batch_size: texts in flight together.
        facts: rows of the table "how it was done".
        notes: things the reader has to know.
        on_texts: told how many more texts are through, for a progress bar.
    """
    pooled = "pooled" in classifier.policy.needs
    told: dict[str, Any] = {"batch_size": batch_size, "on_texts": on_texts}
    outputs = classifier.record(
        dataset.texts, pooled=pooled, tokens=classifier.policy.tokens, gates=classifier.policy.gates, **told
    )
    exit_layer = replay(classifier.policy, outputs)
    cost = (
        classifier.layer_0_cost(dataset.texts, batch_size=batch_size)
        if evaluation is None
        else lambda _: evaluation.layer_0_cost or 0.0  # the same for all here: they share what asks layer 0
    )
    run = Run(dataset.texts, dataset.labels, classifier.labels.names, outputs, exit_layer, classifier.policy, cost)
    scores, points, score, name = _scored(run, dataset, evaluation, metric)
    return Report(
        title,
        lead,
        run,
        scores,
        points,
        name,
        evaluation.score if evaluation else score,
        evaluation,
        evidence.evidence_of(classifier.calibration, classifier.policies, classifier.policy),
        classifier.dtype,
        classifier.backend,
        facts,
        notes,
    )


def _scored(
    run: Run, dataset: TextDataset, evaluation: Evaluation | None, metric: str | None
) -> tuple[list[float], list[OperatingPoint], float | None, str]:
    """Return each layer's score, where other settings stand, the score of these exits, and the metric's name."""
    if dataset.labels is None:
        return [], [], None, ""
    name = metric_name(run.problem_type, evaluation.metric if evaluation else metric)
    scores, points = curves_of(run.outputs, dataset, run.policy, name, layer_0_cost=run.layer_0_cost)
    reached = score(run.problem_type, run.task.decisions(run.exit_probs).numpy(), dataset.labels, name)[1]
    return scores, points, reached, name


def run_page(report: Report) -> str:
    """Return the page as HTML.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    run = report.run
    curve = None
    if report.score is not None:
        others = [(point.mean_exit_layer, point.score) for point in report.points]
        here = (report.run.mean_exit_layer, report.score)
        curve = run_charts.score_by_depth(DepthCurve(report.scores, report.metric, here, others))
    return page(
        "run.html",
        title=report.title,
        lead=report.lead,
        run=run,
        tiles=_headlines(report),
        notes=report.notes,
        depth=(curve, run_charts.exit_layers(run.histogram, run.layer_0)),
        changes=_changes(run),
        who=(run_charts.by_length(run), run_charts.by_confidence(run)),
        classes=_classes(run),
        groups=texts.groups(run),
        evidence=evidence.shown(report.found, dtype=report.dtype, backend=report.backend),
        numbers=_numbers(report),
        facts=report.facts,
    )


def _headlines(report: Report) -> list[tuple[str, str]]:
    run = report.run
    tiles = []
    if report.score is not None:
        tiles.append((f"{report.score:.3f}", f"{report.metric} with exits"))
        tiles.append((f"{report.scores[-1]:.3f}", f"{report.metric} at full depth"))
    tiles.append((f"{report.run.mean_exit_layer:.1f} of {run.layers}", "layers a text runs, on average"))
    if run.layer_0 is not None:
        tiles.append((percent(run.layer_0 / len(run.texts)), "of the texts leave before the first layer, by layer 0"))
    if report.evaluation is not None:
        fewer = f"{report.evaluation.layer_speedup:.2f}× fewer layers"
        tiles.append((f"{report.evaluation.speedup:.2f}×", f"the speed of full depth, on the clock ({fewer})"))
    elif run.layer_speedup is not None:
        tiles.append((f"{run.layer_speedup:.2f}×", "fewer layers"))
    return tiles


def _changes(run: Run) -> dict[str, Any]:
    """Return what leaving early changed, in words; with labels also as parts of a bar and for every exit layer."""
    total, verdicts = len(run.texts), run.verdicts
    if not run.names:
        return {"words": _value_words(run)}
    if verdicts is None:
        changed = int(run.changed.sum())
        share = percent(changed / total)
        return {"words": f"{changed:,} of {total:,} texts ({share}) got another answer than at full depth."}
    won, lost, wrong = (int(mask.sum()) for mask in (verdicts.corrected, verdicts.hurt, verdicts.wrong))
    right = total - won - lost - wrong
    words = (
        f"{won:,} texts are right at their exit and would have been wrong at the last layer (overthinking mitigated); "
        f"{lost:,} are wrong at their exit and would have been right. {right:,} are right and {wrong:,} wrong both "
        f"ways. In all: {abs(won - lost):,} right answers {'fewer' if won < lost else 'more'} in {total:,} texts."
    )
    names = ("right both ways", "right at the exit only", "right at the last layer only", "wrong both ways")
    parts = list(zip(names, ("same", "won", "lost", "wrong"), (right, won, lost, wrong), strict=True))
    return {"words": words, "parts": parts, "rows": _by_exit(run, verdicts)}


def _value_words(run: Run) -> str:
    last = run.outputs.probs[:, -1]
    step = (run.exit_probs - last).abs().mean()
    words = f"The value at the exit and at the last layer differ by {step:.3f} on average."
    if run.gold is not None:
        gold = torch.tensor(run.gold).view(len(run.texts), -1)
        errors = [float((values - gold).abs().mean()) for values in (run.exit_probs, last)]
        words += f" On average they are {errors[0]:.3f} and {errors[1]:.3f} away from the label."
    return words


def _by_exit(run: Run, verdicts: Verdicts) -> list[list[str]]:
    """Return the rows of a table of exit layers: texts, right there, right at full depth, corrected, hurt."""
    rows = []
    for layer in run.stages:
        here = run.exit_layer == layer
        if bool(here.any()):
            counts = [f"{int(mask[here].sum()):,}" for mask in (verdicts.corrected, verdicts.hurt)]
            rows.append([str(layer), f"{int(here.sum()):,}", *_shares(verdicts, here), *counts])
    return rows


def _classes(run: Run) -> dict[str, Any] | None:
    """Return the table of classes: how deep their texts run, and how often they are right; None for other tasks."""
    said = run.task.of_one_class(run.task.decisions(run.exit_probs) if run.gold is None else run.gold)
    if said is None:
        return None
    classes = torch.as_tensor(said)
    masks = [(name, classes == index) for index, name in enumerate(run.names)]
    found = [(float(run.exit_layer[here].double().mean()), name, here) for name, here in masks if bool(here.any())]
    head = ["Class" if run.gold is not None else "Class answered", "#Texts", "Mean exit layer"]
    head += ["#Right at exit", "#Right at full depth"] if run.verdicts is not None else []
    rows = []
    for mean, name, here in sorted(found, key=lambda each: each[0]):
        depth = {"share": mean / run.layers, "text": f"{mean:.2f}"}
        rows.append([shortened(name, 60), f"{int(here.sum()):,}", depth, *_shares(run.verdicts, here)])
    return {"head": head, "rows": rows}


def _shares(verdicts: Verdicts | None, here: Tensor) -> list[str]:
    """Return the share of some texts that is right at the exit, and at full depth; nothing without labels."""
    masks = () if verdicts is None else (verdicts.at_exit, verdicts.at_last)
    return [percent(float(mask[here].double().mean())) for mask in masks]


def _numbers(report: Report) -> list[tuple[str, str]]:
    if report.evaluation is not None:
        return summary(report.evaluation)
    rows = [("texts", f"{len(report.run.texts):,}")]
    if report.score is not None:
        rows.append((f"{report.metric}, with exits", f"{report.score:.4f}"))
        rows.append((f"{report.metric}, full depth", f"{report.scores[-1]:.4f}"))
    speedup = report.run.layer_speedup
    return [
        *rows,
        ("mean exit layer", f"{report.run.mean_exit_layer:.2f} of {report.run.layers}"),
        ("layer speedup", "no layers run" if speedup is None else f"{speedup:.2f}×"),
        *layer_0_words(report.run.layer_0, report.run.layer_0_cost(report.run.policy)),
        ("policy", policy_words(report.run.policy.to_dict())),
        ("computed by", f"{report.backend}, {report.dtype}"),
    ]
