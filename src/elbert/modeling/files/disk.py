"""Writing so that a full disk or a kill leaves the last good state and one clear line, never a half-written folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from elbert.errors import ElbertError

# What to do where a disk is full or a folder lets nothing be written: for runs that can be taken up, and for the rest.
ANOTHER_FOLDER = "free some space or name another folder"
FREE_SPACE = "free some space, then run it again (with --resume where an unfinished run is left)"


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Give a fresh folder to write into, which takes the place of `folder` by rename once the block is through.

    Where the block fails nothing of it stays, and an older `folder` is left as it was. A kill between the two renames
    leaves the older one under another name; the next call puts it back first.
    """
    fresh, old = folder.with_name(f".{folder.name}.new"), folder.with_name(f".{folder.name}.old")
    if old.exists() and not folder.exists():
        old.rename(folder)
    for leftover in (fresh, old):
        shutil.rmtree(leftover, ignore_errors=True)
    fresh.mkdir(parents=True)
    try:
        yield fresh
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    if folder.exists():
        folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def write_errors(what: str, advice: str) -> Iterator[None]:
    """Turn whatever the writing libraries raise on a full or failing disk into one line.

    Args:
        what: what was being written, as in "cannot write {what}".
        advice: how to mend it.

    Raises:
        ElbertError: the disk refused.
    """
    try:
        yield
    except Exception as error:
        reason = _disk_reason(error)
        if reason is None:
            raise
        raise ElbertError(f"cannot write {what}: {reason}; {advice}") from error


def _disk_reason(error: Exception) -> str | None:
    """Return why the disk refused, or None where the error is another kind."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    # safetensors wraps the system's error in its own kind, the Rust tokenizer in a bare Exception.
    if isinstance(error, SafetensorError) or (type(error) is Exception and "os error" in str(error)):
        return str(error).splitlines()[0]
    return None
