"""`elbert train`: labelled texts to a model every layer of which can answer. The training is `elbert.training`'s."""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elbert.cli import options
from elbert.cli.console import answer, saved_before
from elbert.cli.flags import FlagsOf
from elbert.errors import UsageError
from elbert.training.settings import TrainSettings

if TYPE_CHECKING:
    from elbert.training import TrainSummary

_DATA_HELP = "A CSV, TSV, JSONL or Parquet file (also .gz), a GLUE-style folder, or hub:NAME[:CONFIG[:SPLIT]]."


# The settings most runs choose among; --set takes any other.
_FLAGS = (
    *("scheme", "epochs", "batch_size", "learning_rate", "max_length", "seed", "dtype", "class_weight", "metric"),
    *("metric_for_best", "early_stopping", "teacher_weight", "temperature", "leap", "length_drop", "report_to"),
)


def train(
    data: Annotated[str, typer.Argument(metavar="DATA", help=_DATA_HELP)],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The model folder to be; until then DIR.partial.")],
    given: Annotated[dict[str, Any], FlagsOf(TrainSettings, _FLAGS)],
    model: Annotated[
        str | None,
        typer.Option(help="A folder, hub id, bundled checkpoint or random-… shape.  [default: the bundled one]"),
    ] = None,
    eval: Annotated[
        str | None, typer.Option(metavar="DATA", help="What to score on.  [default: a stratified tenth of DATA]")
    ] = None,
    scheme_option: Annotated[
        list[str] | None,
        typer.Option("--scheme-option", "-o", metavar="NAME=VALUE", help="Of the scheme; repeatable."),
    ] = None,
    teacher: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Learn from this trained classifier of the same classes, too.")
    ] = None,
    unlabelled: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Texts without labels, to learn from the teacher alone, or by self_distillation."
        ),
    ] = None,
    columns: options.ColumnFlags = options.COLUMNS,
    problem_type: Annotated[
        str | None,
        typer.Option(help="single_label_classification, multi_label_classification or regression, if guessed wrong."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Any other setting (see docs/training.md); repeatable."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the unfinished run in DIR.partial.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a model or an unfinished run at DIR.")
    ] = False,
    json: options.JsonLine = False,
) -> None:
    """Fine-tune a model so that every layer can answer; DIR appears when it is whole.

    Ctrl-C saves; the same command with --resume goes on and ends in the same model. The best epoch's weights are kept.

    Example:
        elbert train train.csv --out runs/mine
        elbert train data/sst2 --eval data/sst2/dev.tsv --out runs/sst2 --model albert/albert-base-v2 --epochs 5
        elbert train train.jsonl --out runs/mine --scheme elbert_balanced --resume
        elbert train train.csv --out runs/small --teacher runs/big --unlabelled more.txt
        elbert train rare.csv --out runs/rare --class-weight balanced --set eval_steps=200 --early-stopping 5
    """
    if scheme_option:
        given["scheme_options"] = _options(scheme_option)
    from elbert.training.ranks import is_first

    settings = _settings(given, set_ or [])
    _check_lesson(settings, teacher)
    lesson = (teacher, unlabelled)
    with _log_on_stderr(), saved_before(out):
        summary = _run(
            data, eval, model, lesson, settings, out, columns, problem_type, resume=resume, overwrite=overwrite
        )
    if is_first():
        _show(summary, as_json=json)


def _run(
    data: str,
    evaluation: str | None,
    model: str | None,
    lesson: tuple[str | None, str | None],
    settings: TrainSettings,
    out: Path,
    columns: options.ColumnFlags,
    problem_type: Any,
    *,
    resume: bool,
    overwrite: bool,
) -> TrainSummary:
    """Load data and model, and train."""
    from elbert.runs.folder import check_free, run_folder
    from elbert.training import default_model, start_model
    from elbert.training import train as run
    from elbert.training.ranks import is_first

    if is_first():
        check_free(run_folder(out), resume=resume, overwrite=overwrite)  # before anything slow
    rows = columns.load(data, None, usual="train", problem_type=problem_type)
    dev = None if evaluation is None else columns.load(evaluation, None, rows.label_space)
    name = model or default_model()
    loaded, tokenizer = start_model(name, rows, settings)
    teacher, more = lesson
    unlabelled = None if more is None else replace(columns, input_format=None).load_texts(more, None, usual="train")
    return run(
        loaded,
        tokenizer,
        rows,
        dev,
        settings,
        out,
        resume,
        overwrite=overwrite,
        model_name=name,
        teacher=teacher,
        unlabelled=unlabelled,
    )


def _show(summary: TrainSummary, *, as_json: bool) -> None:
    """Print the scores of every layer and what to do next; for programs one JSON line alone on stdout."""
    from elbert.reports.tables import table

    rows = enumerate(zip(summary.layer_scores, summary.scheme_weights, strict=True), start=1)
    cells = [(str(layer), f"{score:.4f}", f"{weight:.3f}") for layer, (score, weight) in rows]
    layers = table(cells, ("layer", summary.metric, "loss weight"), words=0)
    alone = summary.encoder_scores
    place = shlex.quote(str(summary.out))
    lines = [
        f"on {summary.dev_rows} dev texts, after step {summary.best_step} of {summary.steps}; {summary.seconds:.0f} s",
        *([] if alone is None else [f"without layer 0, which is added to every exit, the last scores {alone[-1]:.4f}"]),
        "",
        "next:",
        f"  elbert calibrate {place} HELD_OUT_DATA  # until then every text runs all layers",
        f"  elbert evaluate {place} TEST_DATA  # other texts than those: they chose the epoch",
        f'  elbert predict {place} "a text"',
    ]
    answer(layers, *lines, document=summary.to_dict(), as_json=as_json)


def _settings(flags: dict[str, Any], words: list[str]) -> TrainSettings:
    """Join the flags that were given with the words of --set.

    Raises:
        UsageError: an unknown setting, a value that isn't allowed, or a setting given both ways.
    """
    further = options.parse_settings(words, example="warmup=0.1")
    for name in further.keys() & flags.keys():
        flag = "--scheme-option" if name == "scheme_options" else f"--{name.replace('_', '-')}"
        raise UsageError(f"{name} was given twice, by {flag} and by --set {name}=…; give one of them")
    return TrainSettings.from_dict({**flags, **further})


def _check_lesson(settings: TrainSettings, teacher: str | None) -> None:
    """Refuse what says how a teacher is learnt from where there is none."""
    usual = type(settings)()
    given = [name for name in ("teacher_weight", "temperature") if getattr(settings, name) != getattr(usual, name)]
    if given and teacher is None:
        names = " and ".join(given)
        raise UsageError(f"{names} says how a teacher is learnt from; give --teacher too, or leave it out")


def _options(words: list[str]) -> dict[str, float]:
    """Read the words of --scheme-option; every option is a number.

    Raises:
        UsageError: a word is something else.
    """
    parsed = options.parse_settings(words, "--scheme-option", "pull=2")
    for name, value in parsed.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise UsageError(f"--scheme-option {name}={value} is not NAME=NUMBER, for example --scheme-option pull=2")
    return {name: float(value) for name, value in parsed.items()}


@contextmanager
def _log_on_stderr() -> Iterator[None]:
    """Show the library's own log lines on stderr while the block runs, without tearing the progress bar."""
    from tqdm.contrib.logging import logging_redirect_tqdm

    logger, handler = logging.getLogger("elbert"), logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        with logging_redirect_tqdm([logger]):
            yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
