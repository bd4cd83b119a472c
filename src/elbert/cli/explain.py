"""`elbert explain`: why a text left where it did, or who leaves early in a data set. `elbert.reports` draws it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elbert.cli import options
from elbert.cli.console import STANDARD, check_output, json_line, progress_bar, warnings_last, written_last
from elbert.disk import write_whole
from elbert.errors import DataError, UsageError

if TYPE_CHECKING:
    from elbert.classifier import Classifier


def explain(
    model: options.Model,
    text: Annotated[str | None, typer.Argument(metavar="TEXT", help="A text; - reads it from standard input.")] = None,
    text_pair: Annotated[str | None, typer.Option(metavar="TEXT", help="The second text of a pair.")] = None,
    label: Annotated[
        str | None, typer.Option(metavar="GOLD", help="The right answer; several of them with ; between them.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="DATA", help="Instead of a text: a file, a GLUE-style folder, or hub:NAME.")
    ] = None,
    split: options.SplitOfDev = None,
    out: Annotated[Path | None, typer.Option(metavar="PAGE", help="The HTML page to be.")] = None,
    policy: options.PolicyFlags = options.POLICY,
    batch_size: options.BatchSize = 32,
    loading: options.LoadFlags = options.LOADING,
    columns: options.ColumnFlags = options.COLUMNS,
    overwrite: options.Overwrite = False,
    progress: options.Progress = False,
    json: Annotated[bool, typer.Option("--json", help="Write the trace as one JSON line on stdout.")] = False,
) -> None:
    """Show on one page what every layer says of a text, where it leaves and why, and what [CLS] attends to.

    With --data the page shows a data set: who leaves early and who late, and where leaving early helped or hurt. The
    page needs nothing beside itself. With --json alone, no page is written.

    Example:
        elbert explain runs/mine "What a film!" --label positive --out page.html
        elbert explain runs/mine "A man sleeps." --text-pair "Somebody is awake." --threshold 0.2 --out page.html
        elbert explain runs/mine --data test.csv --out page.html
        elbert explain runs/mine "What a film!" --json | jq .exit_layer
    """
    _check(text, text_pair, label, data, out, overwrite=overwrite, as_json=json)
    if data is not None:
        from elbert.reports.plots import check_installed

        check_installed()
    with written_last(out):
        with warnings_last():
            classifier = options.load_classifier(model, policy, loading)
            computed = f"{classifier.backend}, {classifier.dtype}, {classifier.device}"
            facts = [("model", model), ("computed by", computed)]
            if data is None:
                page, answer = _of_text(classifier, _read(text, text_pair), label, facts)
        if data is not None:
            facts.append(("data", data))
            with progress_bar(None, "texts", forced=progress) as bar:
                page, answer = _of_data(classifier, data, split, columns, batch_size, facts, bar.update)
        if out is not None:
            write_whole(out, page)
    if out is not None:
        typer.echo(f"the page: {out}", err=json)
    if json:
        typer.echo(json_line(answer))


def _check(
    text: str | None,
    text_pair: str | None,
    label: str | None,
    data: str | None,
    out: Path | None,
    *,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Refuse what does not go together, before anything is loaded."""
    if (text is None) == (data is None):
        given = "neither was" if text is None else "both were"
        raise UsageError(f"give a text, or a data set with --data; {given} given")
    if data is not None and (text_pair is not None or label is not None):
        raise UsageError("--text-pair and --label belong to a text; DATA has columns for them")
    if out is None and not as_json:
        raise UsageError("name the page with --out PAGE, or ask for --json")
    if out is not None:
        check_output(out, overwrite=overwrite)


def _read(text: str | None, text_pair: str | None) -> str | tuple[str, str]:
    """Return the text or pair, read from standard input where it is `-`.

    Raises:
        DataError: it holds what no tokenizer takes: broken UTF-8, NUL.
    """
    from elbert.data import load_texts

    if text == STANDARD:
        try:
            text = sys.stdin.buffer.read().decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise DataError(f"standard input: byte {error.start} is not UTF-8; send the text as UTF-8") from None
    given = (text or "") if text_pair is None else (text or "", text_pair)
    return load_texts([given]).texts[0]


def _of_text(
    classifier: Classifier, text: str | tuple[str, str], label: str | None, facts: list[tuple[str, str]]
) -> tuple[str, dict[str, Any]]:
    """Return the page and the JSON of one text."""
    from elbert.reports.text_page import text_page
    from elbert.tracing.patterns import pattern_of

    gold = _gold(classifier, label)
    trace = classifier.trace(text)
    answer = {**trace.to_dict(), "gold": label, "pattern": pattern_of(trace, gold).name}
    return text_page(trace, gold, facts), answer


def _gold(classifier: Classifier, label: str | None) -> Any:
    """Return the label as the model encodes it.

    Raises:
        UsageError: the model has no such label.
    """
    if label is None:
        return None
    try:
        return classifier.labels.encode(label, "--label")
    except DataError as error:
        raise UsageError(str(error)) from None


def _of_data(
    classifier: Classifier,
    data: str,
    split: str | None,
    columns: options.ColumnFlags,
    batch_size: int,
    facts: list[tuple[str, str]],
    on_texts: Callable[[int], object],
) -> tuple[str, dict[str, Any]]:
    """Return the page and the JSON of a data set."""
    from elbert.reports.run_page import report_of, run_page

    dataset = columns.load(data, split, classifier.labels, require_labels=False)
    report = report_of(
        classifier,
        dataset,
        title=f"Who leaves early: {Path(classifier.name).name} on {Path(dataset.name).name}",
        lead=f"{len(dataset):,} texts at full depth, and where each would have left.",
        batch_size=batch_size,
        facts=facts,
        on_texts=on_texts,
    )
    answer = {**report.run.to_dict(), "metric": report.metric or None, "score": report.score}
    return run_page(report), {**answer, "full_depth_score": report.scores[-1] if report.scores else None}
