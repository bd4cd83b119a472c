"""`elbert evaluate`: how good and how fast a model is with its exits. The numbers are made in `elbert.evaluation`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from elbert.cli import options
from elbert.cli.console import answer, check_output, facts, progress_bar, written_last
from elbert.disk import write_whole
from elbert.errors import UsageError

if TYPE_CHECKING:
    from elbert.cascade import Cascade
    from elbert.classifier import Classifier
    from elbert.data import TextDataset
    from elbert.evaluation.evaluate import Evaluation


def evaluate(
    model: options.Model,
    data: options.Data,
    split: options.SplitOfDev = None,
    policy: options.PolicyFlags = options.POLICY,
    metric: options.Metric = None,
    repeats: Annotated[int | None, typer.Option(min=1, help="Rounds to time.  [default: 3, fewer if slow]")] = None,
    batch_size: options.BatchSize = 32,
    loading: options.LoadFlags = options.LOADING,
    columns: options.ColumnFlags = options.COLUMNS,
    report: Annotated[Path | None, typer.Option(help="Write a page about the run here too.")] = None,
    overwrite: options.Overwrite = False,
    progress: options.Progress = False,
    json: options.JsonLine = False,
) -> None:
    """Score a model on labelled data, with its exits and at full depth, and time one against the other.

    MODEL may be a cascade; it is held against its last model alone, and layers are counted in those of that model.

    Both run in turns on the same engine, tokenising included; the median round counts. `layer speedup` is layers saved,
    `speedup` is time saved, `engine efficiency` is the second over the first.

    Example:
        elbert evaluate runs/mine test.csv --threshold 0.2
        elbert evaluate runs/mine data/sst2 --split dev --json | jq .speedup
        elbert evaluate runs/mine test.csv --policy patience --patience 3 --report page.html
    """
    if report is not None:
        from elbert.modeling.files.sources import is_cascade
        from elbert.reports.plots import check_installed

        check_output(report, overwrite=overwrite)
        check_installed()
        if is_cascade(model):
            raise UsageError(f"--report shows one model's layers, and {model!r} is a cascade of several: leave it out")
    with written_last(report):
        classifier = options.load_any(model, policy, loading)
        dataset = columns.load(data, split, classifier.labels)
        result = _run(classifier, dataset, progress=progress, batch_size=batch_size, metric=metric, repeats=repeats)
        if report is not None:
            _write_report(report, model, cast("Classifier", classifier), dataset, result)
    _show(result, report, as_json=json)


def _run(classifier: Classifier | Cascade, dataset: TextDataset, *, progress: bool, **settings: Any) -> Evaluation:
    from elbert.evaluation.evaluate import evaluate as run

    with progress_bar(None, "texts", forced=progress) as bar:
        return run(classifier, dataset, on_text=bar.update, **settings)


def _write_report(path: Path, model: str, classifier: Classifier, dataset: TextDataset, result: Evaluation) -> None:
    from elbert.reports.run_page import report_of, run_page

    report = report_of(
        classifier,
        dataset,
        title=f"{Path(model).name} on {Path(dataset.name).name}",
        lead=f"{result.n:,} texts, each leaving the network at the first layer that is sure of it.",
        evaluation=result,
        batch_size=result.batch_size,
        facts=[("model", model), ("data", dataset.name)],
    )
    write_whole(path, run_page(report))


def _show(result: Evaluation, report: Path | None, *, as_json: bool) -> None:
    """Print the table for people, and for programs the JSON line alone on stdout."""
    from elbert.reports.summary import summary

    rows = summary(result) + ([("page", str(report))] if report is not None else [])
    answer(facts(rows), document=result.to_dict(), as_json=as_json)
