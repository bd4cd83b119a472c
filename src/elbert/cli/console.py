"""What verbs write: JSON lines, tables for people, progress bars, and files that are whole or not there at all."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

import typer

from elbert.disk import ANOTHER_FOLDER, new_folder, write_errors
from elbert.errors import ModelError, UsageError

if TYPE_CHECKING:
    from rich.table import Table

STANDARD = "-"  # instead of a file's name: standard input, or output


def json_line(value: Any) -> str:
    """Return `value` as one line of JSON, as every JSON parser takes it.

    Raises:
        ModelError: it holds NaN or infinity, which JSON has no words for.
    """
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError:
        raise ModelError("the result holds NaN or infinity; check the model's weights, or run in float32") from None


def show(*parts: Table | str, err: bool) -> None:
    """Write tables and lines for people: tables fit a terminal, and are plain text anywhere else.

    Args:
        parts: from `elbert.reports.tables`, and lines.
        err: on stderr, because stdout holds JSON.
    """
    from elbert.reports import tables

    for part in parts:
        if isinstance(part, str):
            typer.echo(part, err=err)
        elif (sys.stderr if err else sys.stdout).isatty():
            tables.show(part, err=err)
        else:
            typer.echo(tables.plain(part), err=err)


def answer(*parts: Table | str, document: Any, as_json: bool) -> None:
    """Write tables and lines for people; where programs read, these on stderr and the document alone on stdout."""
    show(*parts, err=as_json)
    if as_json:
        typer.echo(json_line(document))


def facts(rows: Iterable[tuple[str, str]]) -> Table:
    """Return two columns for people: names and values."""
    from elbert.reports.tables import table

    return table(rows, prose=True)


def progress_bar(total: int | None, unit: str, *, forced: bool = False) -> Any:
    """Return a bar on stderr that shows itself after a second, and only on a terminal unless `forced`.

    Args:
        total: how many there will be; None where nobody knows.
        unit: what is counted.
        forced: show it wherever stderr goes.
    """
    from tqdm import tqdm

    # tqdm reads None as "only on a terminal".
    return tqdm(total=total, unit=f" {unit}", delay=1, disable=False if forced else None, file=sys.stderr, leave=False)


def check_output(path: Path, *, overwrite: bool) -> None:
    """Refuse an output file before any work is done for it.

    Raises:
        UsageError: it is `-`, exists and may not be replaced, is no file, or its folder does not exist or lets us
            write nothing.
    """
    if str(path) == "-":
        raise UsageError("output '-': this is written to a file, not to standard output; give it a name")
    if path.is_dir():
        raise UsageError(f"output {str(path)!r} is a folder; name a file, in it or elsewhere")
    if path.exists() and not path.is_file():
        raise UsageError(f"output {str(path)!r} exists and is no file; give another name")
    if path.exists() and not overwrite:
        raise UsageError(f"output {str(path)!r} exists; give another name, or --overwrite to replace it")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise UsageError(f"output {str(path)!r}: there is no folder {str(path.parent)!r}; make it first")
    try:
        TemporaryFile(dir=folder).close()  # tried, since permissions don't tell it of every file system
    except OSError as error:
        raise UsageError(
            f"output {str(path)!r}: the folder {str(path.parent)!r} is not writable ({error.strerror}); "
            "name another one"
        ) from None


def check_folder(out: Path, what: str, ours: Callable[[Path], bool], *, overwrite: bool) -> None:
    """Refuse an output folder before any work is done for it; an empty one is as good as none.

    Args:
        out: the folder to be.
        what: it is to hold, for messages.
        ours: says whether a folder holds such a thing, so that it may be replaced.
        overwrite: whether it was asked to.

    Raises:
        UsageError: something lies there that may not be replaced, or no folder can be made there.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"output {str(out)!r} is a file; name a folder")
    if not out.is_dir() or not any(out.iterdir()):
        with write_errors(f"the {what} {out}", ANOTHER_FOLDER), new_folder(out):
            return  # it can be made
    if not overwrite:
        raise UsageError(f"output {str(out)!r} exists; give another name, or --overwrite to replace it")
    if not ours(out):
        raise UsageError(f"output {str(out)!r} is no {what}, so --overwrite leaves it; give another name")


@contextmanager
def when_stopped(kept: Callable[[], str]) -> Iterator[None]:
    """Say at Ctrl-C or SIGTERM within the block what is left of its work, and how to go on."""
    try:
        yield
    except KeyboardInterrupt as stop:
        stop.add_note(kept())
        raise


def written_last(out: Path | None) -> AbstractContextManager[None]:
    """Say at Ctrl-C or SIGTERM within the block that nothing was kept: `out` is written at its end, and whole.

    Args:
        out: the file or folder; None where there is none, and so nothing to be said.
    """
    return nullcontext() if out is None else when_stopped(lambda: f"nothing was written to {out}: start again")


def saved_before(out: Path) -> AbstractContextManager[None]:
    """Say at Ctrl-C or SIGTERM within the block where an unfinished run lies, or that there is none."""
    from elbert.runs.folder import run_folder

    partial = run_folder(out).partial

    def kept() -> str:
        if partial.exists():
            return f"what was saved is in {partial}: go on with --resume"
        return f"nothing was written to {out}: start again"

    return when_stopped(kept)


@contextmanager
def warnings_last() -> Iterator[None]:
    """Hold warnings back until the block is through, and drop them where it raises: a refusal comes alone."""
    with warnings.catch_warnings(record=True) as held:
        yield
    for each in held:
        warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
