"""Readers: one small file per kind of source, each turning it into a `Table`. `open_table` picks the reader.

A reader of a file format is a function `(name, stream of bytes) -> Table`; to add one, write its file and list it in
`FORMATS` and `EXTENSIONS`.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from elbert.data.columns import names_columns
from elbert.data.lines import check_unpacked, open_stream
from elbert.data.readers.csv import read_csv
from elbert.data.readers.dataset import is_dataset, read_dataset
from elbert.data.readers.fasttext import read_fasttext
from elbert.data.readers.folder import find_file
from elbert.data.readers.frame import is_frame, read_frame
from elbert.data.readers.hub import HUB_PREFIX, parse_hub, read_hub
from elbert.data.readers.jsonl import read_jsonl
from elbert.data.readers.parquet import read_parquet
from elbert.data.readers.rows import read_columns, read_rows
from elbert.data.readers.tsv import read_quoted_tsv, read_tsv
from elbert.data.readers.txt import read_txt
from elbert.data.table import Table, shorten
from elbert.data.values import LABEL_PREFIX
from elbert.errors import UsageError, did_you_mean

FORMATS: dict[str, Callable[[str, BinaryIO], Table]] = {
    "csv": read_csv,
    "tsv": read_tsv,
    "tsv-quoted": read_quoted_tsv,
    "jsonl": read_jsonl,
    "parquet": read_parquet,
    "txt": read_txt,
    "fasttext": read_fasttext,
}
EXTENSIONS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".txt": "txt",
}
ALLOWED = "a .csv, .tsv, .jsonl, .parquet or .txt file (also .gz), a folder with train/dev files, or hub:NAME"


@contextmanager
def open_table(source: Any, split: str = "train", input_format: str | None = None) -> Iterator[Table]:
    """Open whatever holds rows, and close it again.

    Args:
        source: a path, `-` (standard input), `hub:NAME[:CONFIG[:SPLIT]]`, a pandas DataFrame, a datasets.Dataset or
            DatasetDict, a list of texts, pairs or dicts, or a dict of columns.
        split: which part, where the source has several.
        input_format: one of `FORMATS`, where the file's extension does not say it; standard input is `txt` without.

    Raises:
        UsageError: there is no such source, or nothing reads it.
        DataError: its first row is already broken.
        MissingExtraError: the reader needs a package that is not installed.
    """
    if is_frame(source):
        yield read_frame(source)
    elif is_dataset(source):
        yield read_dataset(source, split)
    elif isinstance(source, (list, tuple)):
        yield read_rows(source)
    elif isinstance(source, Mapping):
        yield read_columns(source)
    elif not isinstance(source, (str, Path)):
        kind = type(source).__name__
        raise UsageError(
            f"cannot read data from type {kind}; allowed: {ALLOWED}, a list, a DataFrame, a datasets.Dataset"
        )
    elif str(source) == "-":
        table = _reader(input_format or "txt")("standard input", sys.stdin.buffer)
        yield table if input_format else _no_table(table)
    elif str(source).startswith(HUB_PREFIX):
        yield read_hub(str(source), split)
    else:
        path = _find_path(Path(source).expanduser(), split)
        kind = input_format or format_of(path)
        reader = _reader(kind)
        with open_stream(path) as stream:
            table = reader(str(path), stream)
            yield _no_table(table) if kind == "txt" and not input_format else table


def choose_split(source: str, named: str | None, usual: str) -> str:
    """Return which part of a source is read.

    Args:
        source: a path, `-` or `hub:NAME[:CONFIG[:SPLIT]]`.
        named: what the user names, None for nothing.
        usual: taken then.

    Raises:
        UsageError: a part is named of a source that is one, or that names another itself.
    """
    if named is None:
        return usual
    if str(source).startswith(HUB_PREFIX):
        if own := parse_hub(source)[2]:
            raise UsageError(f"--split {named} beside {source!r}, which names its part {own!r}; leave one of them out")
    elif source == "-" or Path(source).expanduser().is_file():
        what = "standard input" if source == "-" else f"{source!r} is a file, and"
        raise UsageError(f"--split {named}: {what} has no parts; name a folder or hub:NAME, or leave --split out")
    return named


def _no_table(table: Table) -> Table:
    """Refuse plain text whose first line is a table's header or labelled: it would be classified as it stands."""
    first = next(table.rows, None)
    if first is None:
        return table
    line = first.cells["text"]
    mark = names_columns(line)
    kind = {"\t": "tsv", ",": "csv"}.get(mark or "", "csv" if mark else None)
    if kind is None and line.startswith("{") and '"text"' in line:
        kind = "jsonl"
    does = "names columns"
    if line.lstrip().startswith(LABEL_PREFIX):
        kind, does = "fasttext", "names its labels"
    if kind is not None:
        raise UsageError(
            f"{table.name}: its first line {shorten(line)} {does}, so it is no plain text; "
            f"read it with --input-format {kind}, or with txt where every line is a text"
        )
    return replace(table, rows=chain([first], table.rows))


def format_of(path: Path) -> str:
    """Return the format that a file's extension stands for, `.gz` aside.

    Raises:
        UsageError: the extension is unknown.
        DataError: it stands for a way of packing that nothing here unpacks.
    """
    check_unpacked(path)
    extension = Path(path.stem).suffix if path.suffix.lower() == ".gz" else path.suffix
    if extension.lower() not in EXTENSIONS:
        raise UsageError(f"unknown extension {extension!r} of {str(path)!r}{did_you_mean(extension, EXTENSIONS)}")
    return EXTENSIONS[extension.lower()]


def _reader(input_format: str) -> Callable[[str, BinaryIO], Table]:
    if input_format not in FORMATS:
        raise UsageError(f"unknown input format {input_format!r}{did_you_mean(input_format, FORMATS)}")
    return FORMATS[input_format]


def _find_path(path: Path, split: str) -> Path:
    """Return the file to read: `path` itself, or the file of `split` in it where it is a folder."""
    try:
        if path.is_dir():
            return find_file(path, split, tuple(EXTENSIONS))
        found = path.exists()
    except OSError as error:  # for example a text given as a path: too long
        raise UsageError(f"cannot look for {shorten(str(path))} ({error.strerror}); allowed: {ALLOWED}") from None
    if not found:
        hint = _neighbour(path)
        allowed = f"{hint} Allowed" if hint.endswith("?") else f"{hint}; allowed"
        raise UsageError(f"no file or folder {str(path)!r}{allowed}: {ALLOWED}")
    return path


def _neighbour(path: Path) -> str:
    """Return a hint at where a link leads to, or at a file of nearly that name beside the missing one."""
    if path.is_symlink():
        return f", it is a link to {str(path.readlink())!r}, where nothing lies: mend it, or name another"
    beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, beside, n=1)
    return f"; did you mean {str(path.with_name(close[0]))!r}?" if close else ""
