"""Writing so that a full disk or a kill leaves the last good state and one clear line, never a half-written folder."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from elbert.errors import ElbertError, UsageError

# A folder without it is no model folder.
_MARKER = "config.json"

# What to do where a disk is full or a folder lets nothing be written: for runs that can be taken up, and for the rest.
ANOTHER_FOLDER = "free some space or name another folder"
FREE_SPACE = "free some space, then run it again (with --resume where an unfinished run is left)"

# What the system says where the place is wrong, which no free space mends; `/proc` knows no file that is to be made.
_NO_PLACE = {
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.ENAMETOOLONG, errno.ELOOP),
}


@contextmanager
def whole_file(path: Path) -> Iterator[TextIO]:
    """Open a text file for writing that takes its name only when the block ends well; otherwise nothing is left of it.

    Raises:
        ElbertError: the file cannot be made; a UsageError where none can be made there.
        OSError: what the system says when the disk is full half-way.
    """
    target = path.resolve()  # through a link, so that the link stays one
    draft = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with write_errors(repr(str(path)), ANOTHER_FOLDER):  # the user knows the file by its own name
            stream = draft.open("w", encoding="utf-8", newline="")
        with stream:
            yield stream
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file that takes its name only when it is whole; raises as `whole_file` does."""
    with whole_file(path) as stream:
        if isinstance(content, bytes):
            stream.buffer.write(content)
        else:
            stream.write(content)


@contextmanager
def new_folder(folder: Path) -> Iterator[None]:
    """Make a folder for the block, and those above it; what of them nothing was written into goes again behind it.

    Raises:
        OSError: it cannot be made.
    """
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        for each in missing:
            with suppress(OSError):  # it holds something by now, or was never made
                each.rmdir()


@contextmanager
def whole_folder(folder: Path, kept: Callable[[Path], bool] | None = None) -> Iterator[Path]:
    """Give a fresh folder to write into, which takes the place of `folder` by rename once the block is through.

    Where the block fails nothing of it stays, and an older `folder` is left as it was. A kill between the two renames
    leaves the older one under another name; the next call puts it back first. A folder that cannot be renamed, as
    something is mounted there or it is where this program stands, is filled in place: its `config.json` goes first and
    comes last, so that a kill leaves what loading refuses and no mixture.

    Args:
        folder: the target.
        kept: says which files and folders of an older `folder` go over into the new one; by default none.
    """
    folder = folder.resolve()
    if _stays(folder):
        with _inside(folder, kept) as fresh:
            yield fresh
        return
    fresh, old = folder.with_name(f".{folder.name}.new"), folder.with_name(f".{folder.name}.old")
    if old.exists() and not folder.exists():
        old.rename(folder)
    for leftover in (fresh, old):
        shutil.rmtree(leftover, ignore_errors=True)
    with new_folder(fresh):
        try:
            yield fresh
            for path in _carried(folder, fresh, kept):
                _link(path, fresh / path.name)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
        if folder.exists():
            folder.rename(old)
        fresh.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _inside(folder: Path, kept: Callable[[Path], bool] | None) -> Iterator[Path]:
    fresh = folder / ".elbert.new"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    try:
        yield fresh
        carried = {fresh, *_carried(folder, fresh, kept)}
        marker = folder / _MARKER
        for path in sorted(folder.iterdir(), key=lambda path: path != marker):
            if path not in carried:
                _remove(path)
        for path in sorted(fresh.iterdir(), key=lambda path: path.name == _MARKER):
            path.rename(folder / path.name)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _stays(folder: Path) -> bool:
    """Say whether a folder cannot be put in another's place by renaming."""
    if not folder.is_dir():
        return False
    here = Path.cwd()
    return folder.is_mount() or folder in (here, *here.parents) or not os.access(folder.parent, os.W_OK)


def _carried(folder: Path, fresh: Path, kept: Callable[[Path], bool] | None) -> list[Path]:
    """Return what of an older folder goes over into the new one, which may have something of that name already."""
    if kept is None or not folder.is_dir():
        return []
    return [path for path in folder.iterdir() if kept(path) and not (fresh / path.name).exists()]


def _link(path: Path, target: Path) -> None:
    """Give a file or folder a second name: nothing is lost then whenever a kill comes."""
    if path.is_dir() and not path.is_symlink():
        shutil.copytree(path, target, symlinks=True, copy_function=_link_file)
    else:
        _link_file(path, target)


def _link_file(path: str | Path, target: str | Path) -> None:
    try:
        os.link(path, target, follow_symlinks=False)
    except OSError:  # a file system without such links
        shutil.copy2(path, target, follow_symlinks=False)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


@contextmanager
def write_errors(what: str, advice: str) -> Iterator[None]:
    """Turn whatever the writing libraries raise on a full or failing disk into one line.

    Args:
        what: what was being written, as in "cannot write {what}".
        advice: how to mend it; another one is given where the place is wrong.

    Raises:
        ElbertError: the disk refused.
        UsageError: nothing can be made at that place, whatever the disk.
    """
    try:
        yield
    except Exception as error:
        reason = _disk_reason(error)
        if reason is None:
            raise
        if isinstance(error, OSError) and error.errno in _NO_PLACE:
            raise UsageError(f"cannot write {what}: {reason}; name a place where files can be made") from error
        raise ElbertError(f"cannot write {what}: {reason}; {advice}") from error


def _disk_reason(error: Exception) -> str | None:
    """Return why the disk refused, or None where the error is another kind."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    from safetensors import SafetensorError  # what only writes text files spares it

    # safetensors wraps the system's error in its own kind, the Rust tokenizer in a bare Exception.
    if isinstance(error, SafetensorError) or (type(error) is Exception and "os error" in str(error)):
        return str(error).splitlines()[0]
    return None
