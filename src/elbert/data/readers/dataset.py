"""Reads a datasets.Dataset (or a DatasetDict's split); class ids become the names its features declare."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

from elbert.data.readers.folder import pick_split
from elbert.data.table import BrokenRowError, Record, Table, check_columns, number_rows, quote_names
from elbert.errors import UsageError


def is_dataset(source: object) -> bool:
    """Say whether `source` is a Dataset, a stream of one, or a dict of either, without importing datasets."""
    datasets = sys.modules.get("datasets")
    kinds = ("Dataset", "DatasetDict", "IterableDataset", "IterableDatasetDict")
    return datasets is not None and isinstance(source, tuple(getattr(datasets, kind) for kind in kinds))


def read_dataset(source: Any, split: str, name: str | None = None) -> Table:
    """Turn a Dataset into a table.

    Args:
        source: a `datasets.Dataset` or `IterableDataset`, in any format, or a dict of them to pick `split` from.
        split: `train`, `dev`, `test`, or a split's own name; ignored for a Dataset.
        name: what errors call it.

    Raises:
        UsageError: no such split.
        DataError: later, at a class id its feature does not declare.
    """
    if isinstance(source, Mapping):
        picked = pick_split(split, source)
        if picked is None:
            raise UsageError(f"no {split!r} split in {name or 'DatasetDict'}, only {quote_names(sorted(source))}")
        return read_dataset(source[picked], split, f"{name or 'DatasetDict'}:{picked}")
    title = name or type(source).__name__
    source = source.with_format(None)  # a format, or a transform, is how rows look and not what they are
    rows, columns = source, tuple(source.column_names or ())
    if not columns:  # a stream that has not been looked into
        rows, columns = _peek(iter(source))
    check_columns(title, columns)
    features = source.features or {}
    class_names = {column: names for column in columns if (names := _class_names(features.get(column)))}
    return Table(title, columns, number_rows(title, _records(rows, class_names)), class_names)


def _peek(rows: Iterator[dict[str, Any]]) -> tuple[Iterator[dict[str, Any]], tuple[str, ...]]:
    """Return rows, with the names of the first one's columns."""
    first = next(rows, None)
    return (iter(()), ()) if first is None else (chain([first], rows), tuple(first))


def _class_names(feature: Any) -> tuple[str, ...]:
    """Return the names a ClassLabel, or a list of them, declares."""
    inner = getattr(feature, "feature", feature)
    return tuple(name.strip() for name in getattr(inner, "names", None) or ())


def _records(rows: Iterable[dict[str, Any]], class_names: Mapping[str, tuple[str, ...]]) -> Iterator[Record]:
    for row in rows:
        try:
            yield None, {**row, **{column: _named(row[column], names) for column, names in class_names.items()}}
        except BrokenRowError as error:
            yield None, error


def _named(value: Any, names: tuple[str, ...]) -> Any:
    """Return the name of a class id, or the names of a list of them; -1 is how datasets marks a missing label."""
    if isinstance(value, list):
        return [_named(item, names) for item in value]
    if not isinstance(value, int) or value == -1:
        return None
    if not 0 <= value < len(names):
        raise BrokenRowError(None, f"class id {value}; the feature declares ids 0 to {len(names) - 1}")
    return names[value]
