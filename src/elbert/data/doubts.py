"""Doubts about the classes found in a data set: names that may be one class, mean no label or hold quotes; too many."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from elbert.data.table import quote_names, shorten

# What pandas and R read and write in the place of nothing, and SNLI where its annotators did not agree.
_NOTHING = ("#N/A", "#NA", "<NA>", "N/A", "NA", "NULL", "NaT", "None", "n/a", "null", "-")
MANY_CLASSES = 20  # more than this, in fewer than two rows each, are rather ids


def doubts(names: Sequence[str], rows: int) -> list[str]:
    """Return what may be wrong with the names of classes found in a data set, a line each.

    Args:
        names: all different.
        rows: how many rows they were found in.
    """
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(_seen(name), []).append(name)
    lines = [
        f"classes {quote_names(group)} hardly differ; spell them alike where they are one class"
        for group in alike.values()
        if len(group) > 1
    ]
    absent = [name for name in names if name in _NOTHING and not (name == "-" and "+" in names)]
    if names and all(len(name) > 1 and name[0] == name[-1] and name[0] in "'\"" for name in names):
        read = "which are part of their names; drop them, or read a .tsv with --input-format tsv-quoted"
        lines.append(f"classes {quote_names(names, 3)} stand in quotes, {read}")
    if len(names) > MANY_CLASSES and len(names) * 2 > rows:
        lines.append(
            f"{len(names):,} classes in {rows:,} rows, so most occur once, as ids do; --label-column names another"
        )
    return lines + [f"{shorten(name)} is read as a class; where it means no label, drop its rows" for name in absent]


def _seen(name: str) -> str:
    """Return what a reader sees of a name: no case, no form of an accent, no sign without a shape."""
    shown = "".join(sign for sign in unicodedata.normalize("NFKC", name) if unicodedata.category(sign) != "Cf")
    return " ".join(shown.split()).casefold() or name
