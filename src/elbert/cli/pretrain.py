"""`elbert pretrain`: plain text to an ALBERT encoder. The work is `elbert.pretraining`'s."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elbert.cli import options
from elbert.cli.console import json_line, saved_before
from elbert.cli.flags import FlagsOf
from elbert.pretraining.settings import PretrainSettings, read_settings

if TYPE_CHECKING:
    from elbert.pretraining import Report

_FLAGS = ("hours", "tokens", "epochs", "learning_rate", "max_length", "vocabulary", "seed", "dtype")


def pretrain(
    corpus: Annotated[
        list[Path],
        typer.Argument(
            metavar="CORPUS…", help="Plain text: .txt (blank line between documents) or .jsonl, also .gz, .xz."
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The encoder folder to be; until then DIR.partial.")],
    given: Annotated[dict[str, Any], FlagsOf(PretrainSettings, _FLAGS)],
    teacher: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Learn from this encoder: a folder, hub id or bundled name.")
    ] = None,
    start: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Go on with this ALBERT; shape and tokenizer are its own.")
    ] = None,
    settings: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A .toml or .json file of settings; flags go before it.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any other setting; repeatable.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the unfinished run in DIR.partial.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an encoder or an unfinished run at DIR.")
    ] = False,
) -> None:
    """Pretrain a small ALBERT from plain text; DIR appears when it is whole, and one JSON line says what it came to.

    Without a teacher it learns masked words and sentence order, with a tokenizer trained on the corpus. With one, each
    layer learns to look like the teacher's. Ctrl-C saves; the same command with --resume goes on.

    Example:
        elbert pretrain wiki.txt.xz reviews.jsonl.gz --out runs/encoder --hours 8
        elbert pretrain corpus.txt --out runs/small --teacher sentence-transformers/all-MiniLM-L6-v2
        elbert pretrain corpus.txt --out runs/small --settings recipe.toml --set batch_tokens=8192
        elbert train DATA --model runs/encoder --out runs/mine
    """
    from elbert.pretraining import pretrain as run

    values = read_settings(settings) if settings else {}
    values |= options.parse_settings(set_ or [], example="batch_tokens=8192")
    values |= given
    with saved_before(out):
        summary = run(
            corpus,
            out,
            PretrainSettings.from_dict(values, teacher=teacher is not None),
            teacher=teacher,
            start=start,
            resume=resume,
            overwrite=overwrite,
            on_report=_say,
            show_progress=None,
        )
    typer.echo(json_line(summary.to_dict()))


def _say(report: Report) -> None:
    """Write one line about where the run stands, above the progress bar."""
    from tqdm import tqdm

    losses = "  ".join(
        f"{name} {value:.3f} (held out {report.held_out[name]:.3f})" for name, value in report.loss.items()
    )
    where = f"{report.done:4.0%}  step {report.progress.step}  {report.progress.tokens:,} tokens"
    tqdm.write(f"{where}  {report.tokens_per_second:,.0f}/s  {losses}", file=sys.stderr)
