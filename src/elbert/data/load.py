"""`load_data` reads any source of rows into a `TextDataset`; `read_texts` streams their texts, without labels.

Both go through `open_table`, `find_columns` and `read_text`; one keeps what the other hands on.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elbert.data.columns import Columns, find_columns, read_text
from elbert.data.dataset import Text, TextDataset
from elbert.data.labels import Labels, check_shapes, infer_labels, is_missing
from elbert.data.readers import open_table
from elbert.data.table import Table, Where, quote_names
from elbert.errors import DataError, DataWarning, UsageError

if TYPE_CHECKING:
    from elbert.results import ProblemType


def load_data(
    source: Any,
    *,
    split: str = "train",
    text_column: str | None = None,
    text_pair_column: str | None = None,
    label_column: str | None = None,
    labels: Labels | None = None,
    require_labels: bool = True,
    problem_type: ProblemType | None = None,
) -> TextDataset:
    """Read a whole data set.

    Args:
        source: a CSV, TSV, JSONL, Parquet or text file (also .gz), a folder with train/dev/test files,
            `hub:NAME[:CONFIG[:SPLIT]]`, `-`, a DataFrame, a datasets.Dataset, or a list of texts, pairs or dicts.
        split: which part to take where the source has several; `dev` also takes validation, else test.
        text_column: where the text is not found by name.
        text_pair_column: the same for its pair.
        label_column: the same for the label.
        labels: a trained model's labels, to encode with; without, the label space is made from the data.
        require_labels: whether a source without a label column, or with nothing in it, is an error.
        problem_type: overrules the guess from the label values.

    Raises:
        UsageError: an unknown source, format, split, column or problem type.
        DataError: a row that cannot be read, a missing text or label, a label never seen in training; names the row.
        MissingExtraError: reading this needs a package that is not installed.

    Warns:
        DataWarning: numbers were read as the ids of classes that have names of words.
    """
    if labels is not None and problem_type not in (None, labels.problem_type):
        raise UsageError(
            f"problem_type {problem_type!r} but the model's labels are for {labels.problem_type!r}; leave it"
        )
    with open_table(source, split) as table:
        named = (text_column, text_pair_column, label_column)
        columns = find_columns(_not_empty(table), *named, require_labels=require_labels)
        texts, values, lines = _read_rows(table, columns)
    if not texts:
        raise DataError(f"{table.name}: no rows under the header; give at least one")
    if columns.label is None or (not require_labels and all(is_missing(value) for value in values)):
        return TextDataset(texts, None, None, table.name)
    places = [Where(table.name, number, line) for number, line in enumerate(lines, start=1)]
    check_shapes(values, places)
    declared = table.class_names.get(columns.label, ())
    space = labels or infer_labels(values, columns.label, places, problem_type, declared)
    encoded: Any = [space.encode(value, place) for value, place in zip(values, places, strict=True)]
    if labels is not None and declared != labels.names and (ids := labels.read_as_ids(values)):
        numbers = ", ".join(map(str, ids[:12])) + (" …" if len(ids) > 12 else "")
        meant = quote_names([labels.decode(each) for each in ids])
        warnings.warn(f"{table.name}: labels {numbers} are read as class numbers: {meant}", DataWarning, stacklevel=2)
    return TextDataset(texts, encoded, space, table.name)


def read_texts(
    source: str | Path,
    *,
    text_column: str | None = None,
    text_pair_column: str | None = None,
    input_format: str | None = None,
) -> Iterator[tuple[int, Text]]:
    """Stream the texts of a file, holding a row at a time.

    Args:
        source: a file, or `-` for standard input.
        text_column: where the text is not found by name.
        text_pair_column: the same for its pair.
        input_format: `csv`, `tsv`, `jsonl`, `parquet` or `txt`, where the name does not say; standard input is `txt`.

    Yields:
        `(row number from 1, text or pair)`, in order.

    Raises:
        UsageError: an unknown file, format or column.
        DataError: a row that cannot be read; names the row.
    """
    with open_table(source, input_format=input_format) as table:
        if not table.columns:
            return
        columns = find_columns(table, text_column, text_pair_column)
        for row in table.rows:
            yield row.number, read_text(table, row, columns)


def _not_empty(table: Table) -> Table:
    if not table.columns:
        raise DataError(f"{table.name}: no rows; give at least one")
    return table


def _read_rows(table: Table, columns: Columns) -> tuple[list[Text], list[Any], list[int | None]]:
    """Return every row's text, label value as read, and file line."""
    texts: list[Text] = []
    values: list[Any] = []
    lines: list[int | None] = []
    for row in table.rows:
        texts.append(read_text(table, row, columns))
        lines.append(row.line)
        if columns.label is not None:
            values.append(_plain(row.cells.get(columns.label)))
    return texts, values, lines


def _plain(value: Any) -> Any:
    """Return a NumPy scalar or array as Python's own number or list."""
    return value.tolist() if hasattr(value, "tolist") else value
