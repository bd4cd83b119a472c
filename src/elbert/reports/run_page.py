"""The page of a run over a data set: `elbert evaluate --report`, `elbert explain --data` and the demo all show this."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from elbert.calibration.model import record
from elbert.reports import evidence, html, run_charts, texts
from elbert.reports.page import page
from elbert.reports.run import Run, Verdicts, run_of
from elbert.reports.story import curves_of
from elbert.reports.summary import policy_words, summary
from elbert.scoring.curves import operating_points
from elbert.scoring.metrics import metric_name

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
    outputs = record(classifier, dataset.texts, batch_size, on_texts)
    run = run_of(dataset, classifier.labels.names, outputs, classifier.policy)
    scores, points, score, name = _scored(run, dataset, evaluation.metric if evaluation else metric)
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
    run: Run, dataset: TextDataset, metric: str | None
) -> tuple[list[float], list[OperatingPoint], float | None, str]:
    """Return each layer's score, where other settings stand, the score of these exits, and the metric's name."""
    if dataset.labels is None:
        return [], [], None, ""
    name = metric_name(run.problem_type, metric)
    scores, points = curves_of(run.outputs, dataset, run.policy, name)
    return scores, points, operating_points(run.outputs, dataset.labels, [run.policy], name)[0].score, name


def run_page(report: Report) -> str:
    """Return the page as HTML."""
    run = report.run
    curve = ""
    if report.score is not None:
        others = [(point.mean_exit_layer, point.score) for point in report.points]
        curve = run_charts.score_by_depth(report.scores, report.metric, (run.mean_exit_layer, report.score), others)
    depth = f'<div class="pair">{curve}{run_charts.exit_layers(run.histogram)}</div>'
    who = f'<div class="pair">{run_charts.by_length(run)}{run_charts.by_confidence(run)}</div>'
    sections = [
        html.tiles(_headlines(report)),
        *(html.paragraph(note) for note in report.notes),
        html.section("How deep is deep enough", depth),
        _changes(run),
        html.section("Who leaves early, who late", who, run_charts.by_class(run)),
        texts.section(run),
        evidence.section(report.found, dtype=report.dtype, backend=report.backend),
        html.section("The numbers", html.facts(_numbers(report))),
        html.section("How it was done", html.facts(report.facts), _source(run)),
    ]
    return page(report.title, html.words(report.lead), sections)


def _headlines(report: Report) -> list[tuple[str, str]]:
    run = report.run
    tiles = []
    if report.score is not None:
        tiles.append((f"{report.score:.3f}", f"{report.metric} with exits"))
        tiles.append((f"{report.scores[-1]:.3f}", f"{report.metric} at full depth"))
    tiles.append((f"{run.mean_exit_layer:.1f} of {run.layers}", "layers a text runs, on average"))
    fewer = f"{run.layers / run.mean_exit_layer:.2f}×"
    if report.evaluation is None:
        tiles.append((fewer, "fewer layers"))
    else:
        tiles.append(
            (f"{report.evaluation.speedup:.2f}×", f"the speed of full depth, on the clock ({fewer} fewer layers)")
        )
    return tiles


def _changes(run: Run) -> str:
    """Return what leaving early changed: corrected, hurt, the same; and for every exit layer."""
    title, total = "What leaving early changed", len(run.texts)
    if run.problem_type == "regression":
        return html.section(title, html.paragraph(_value_words(run)))
    changed, verdicts = int(run.changed.sum()), run.verdicts
    if verdicts is None:
        share = html.percent(changed / total)
        words = f"{changed:,} of {total:,} texts ({share}) got another answer than at full depth."
        return html.section(title, html.paragraph(words))
    won, lost, wrong = (int(mask.sum()) for mask in (verdicts.corrected, verdicts.hurt, verdicts.wrong))
    right = total - won - lost - wrong
    words = (
        f"{won:,} texts are right at their exit and would have been wrong at the last layer (overthinking mitigated); "
        f"{lost:,} are wrong at their exit and would have been right. {right:,} are right and {wrong:,} wrong both "
        f"ways. In all: {abs(won - lost):,} right answers {'fewer' if won < lost else 'more'} in {total:,} texts."
    )
    names = ("right both ways", "right at the exit only", "right at the last layer only", "wrong both ways")
    bar = _balance(list(zip(names, ("same", "won", "lost", "wrong"), (right, won, lost, wrong), strict=True)))
    return html.section(title, bar, html.paragraph(words), _by_exit(run, verdicts))


def _balance(parts: Sequence[tuple[str, str, int]]) -> str:
    """Return one bar of parts (name, CSS class, texts) with its legend; the sentence under it says the same."""
    inner = "".join(f'<i class="{kind}" style="flex:{count} 0 0"></i>' for _, kind, count in parts if count)
    keys = "".join(f'<span class="key"><i class="{kind}"></i>{name}</span>' for name, kind, _ in parts)
    return f'<div aria-hidden="true"><div class="balance">{inner}</div><p class="balance keys">{keys}</p></div>'


def _value_words(run: Run) -> str:
    last = run.outputs.probs[:, -1]
    step = (run.exit_probs - last).abs().mean()
    words = f"The value at the exit and at the last layer differ by {step:.3f} on average."
    if run.gold is not None:
        gold = torch.tensor(run.gold).view(len(run.texts), -1)
        errors = [float((values - gold).abs().mean()) for values in (run.exit_probs, last)]
        words += f" On average they are {errors[0]:.3f} and {errors[1]:.3f} away from the label."
    return words


def _by_exit(run: Run, verdicts: Verdicts) -> str:
    """Return a table of exit layers: texts, right there, right at full depth, corrected, hurt."""
    rows = []
    for layer, count in enumerate(run.histogram, start=1):
        if count:
            here = run.exit_layer == layer
            shares = [run_charts.share(right[here]) for right in (verdicts.at_exit, verdicts.at_last)]
            counts = [f"{int(mask[here].sum()):,}" for mask in (verdicts.corrected, verdicts.hurt)]
            rows.append([str(layer), f"{count:,}", *shares, *counts])
    head = ["Exit layer", "#Texts", "#Right at exit", "#Right at full depth", "#Corrected", "#Hurt"]
    return html.grid(head, rows, label="What leaving early changed, by exit layer")


def _numbers(report: Report) -> list[tuple[str, str]]:
    if report.evaluation is not None:
        return summary(report.evaluation)
    rows = [("texts", f"{len(report.run.texts):,}")]
    if report.score is not None:
        rows.append((f"{report.metric}, with exits", f"{report.score:.4f}"))
        rows.append((f"{report.metric}, full depth", f"{report.scores[-1]:.4f}"))
    return [
        *rows,
        ("mean exit layer", f"{report.run.mean_exit_layer:.2f} of {report.run.layers}"),
        ("layer speedup", f"{report.run.layers / report.run.mean_exit_layer:.2f}×"),
        ("policy", policy_words(report.run.policy.to_dict())),
        ("computed by", f"{report.backend}, {report.dtype}"),
    ]


def _source(run: Run) -> str:
    return f'<p class="soft">Exit rule: {html.linked(run.policy.citation)}</p>'
