"""Finds the file of a split in a GLUE-style folder: train, dev (or validation), test, each one file of any format."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from elbert.data.table import quote_names
from elbert.errors import UsageError

# What a split may be called, best first. A request for `dev` is met by `test` where nothing else is left.
SPLITS = {
    "train": ("train", "training"),
    "dev": ("dev", "validation", "valid", "val", "dev_matched", "validation_matched", "test"),
    "validation": ("validation", "dev", "valid", "val", "dev_matched", "validation_matched", "test"),
    "test": ("test", "testing"),
}


def pick_split(split: str, present: Iterable[str]) -> str | None:
    """Return the name among `present` that meets a request for `split`, or None."""
    names = set(present)
    return next((name for name in SPLITS.get(split, (split,)) if name in names), None)


def find_file(folder: Path, split: str, extensions: Sequence[str]) -> Path:
    """Return the file of `split` in `folder`.

    Args:
        folder: an existing directory.
        split: `train`, `dev`, `test`, or any file's name without its extension.
        extensions: recognised ones, with their dot.

    Raises:
        UsageError: no recognised file, no file for that split, or two of them.
    """
    files: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        plain = Path(path.stem) if path.suffix.lower() == ".gz" else path
        if path.is_file() and plain.suffix.lower() in extensions:
            files.setdefault(plain.stem, []).append(path)
    if not files:
        raise UsageError(f"no data in folder {str(folder)!r}; it needs files such as train.tsv and dev.tsv")
    name = pick_split(split, files)
    if name is None:
        raise UsageError(
            f"no {split!r} split in folder {str(folder)!r}, only {quote_names(sorted(files))}; name the file itself"
        )
    if len(files[name]) > 1:
        both = quote_names([path.name for path in files[name]])
        raise UsageError(f"folder {str(folder)!r} has {both} for one split; name the file itself, or move one away")
    return files[name][0]
