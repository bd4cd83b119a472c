"""Where a run lives while it is under way, and how it becomes the finished model folder.

A run writes into `OUT.partial` (its record, its log, its checkpoints); `OUT` appears by one rename when the model is
whole. Knows files, not models.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elbert.disk import ANOTHER_FOLDER, whole_folder, write_errors
from elbert.errors import UsageError

RECORD = "run.json"
LOG = "training_log.jsonl"
CHECKPOINT = "checkpoint-"


@dataclass(frozen=True)
class RunFolder:
    """The folders of one run.

    Attributes:
        out: the model folder to be.
        partial: the run's own folder beside it.
    """

    out: Path
    partial: Path

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints lie."""
        return self.partial / "checkpoints"

    @property
    def answers(self) -> Path:
        """Where a teacher's answers lie, file by file."""
        return self.partial / "teacher"

    @property
    def log(self) -> Path:
        """The log, one JSON object a step."""
        return self.partial / LOG

    def latest(self) -> Path | None:
        """Return the newest whole checkpoint, or None."""
        found = [path for path in self.checkpoints.glob(f"{CHECKPOINT}*") if path.name[len(CHECKPOINT) :].isdigit()]
        return max(found, key=step_of, default=None)

    def drop_if_empty(self) -> None:
        """Drop the run's folder where it holds nothing to go on with, so that what failed at once leaves no trace."""
        if self.latest() is None and not any(self.answers.glob("*.safetensors")):
            shutil.rmtree(self.partial, ignore_errors=True)

    def finish(self, write: Callable[[Path], object]) -> None:
        """Let `write` fill a fresh folder, put it in the place of `out`, and drop what the run leaves behind."""
        with whole_folder(self.out) as fresh:
            write(fresh)
        shutil.rmtree(self.partial, ignore_errors=True)


def step_of(checkpoint: Path) -> int:
    """Return the step a checkpoint was taken at."""
    return int(checkpoint.name[len(CHECKPOINT) :])


def run_folder(out: Path) -> RunFolder:
    """Return the folders of a run that is to end at `out`."""
    out = out.expanduser().resolve()
    return RunFolder(out, out.with_name(f"{out.name}.partial"))


def open_run(
    out: Path, record: dict[str, Any], defaults: dict[str, Any], *, resume: bool, overwrite: bool
) -> RunFolder:
    """Check that the run may write to `out`, and make or find its folder.

    Args:
        out: the model folder to be.
        record: what the run is decided by, JSON-ready; a resumed run must have the same.
        defaults: what each of the record's `settings` is when nothing is said; one that came after the unfinished run
            was started was that in it.
        resume: go on with an unfinished run.
        overwrite: start afresh, and replace what is at `out` once the new model is whole.

    Raises:
        UsageError: `out` is taken, no folder can be made there, there is nothing to resume, or the unfinished run is
            another one.
        ElbertError: the disk is full.
    """
    folder = run_folder(out)
    check_free(folder, resume=resume, overwrite=overwrite)
    if resume:
        _check_same(folder, record, defaults)
        return folder
    shutil.rmtree(folder.partial, ignore_errors=True)
    with write_errors(f"the run's folder beside {out}", ANOTHER_FOLDER):
        folder.checkpoints.mkdir(parents=True)
        (folder.partial / RECORD).write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return folder


def check_free(folder: RunFolder, *, resume: bool, overwrite: bool) -> None:
    """Check what stands at `out`, before anything slow begins.

    Raises:
        UsageError: see `open_run`.
    """
    out, unfinished = folder.out, (folder.partial / RECORD).is_file()
    if resume and overwrite:
        raise UsageError("--resume goes on with a run and --overwrite throws it away; give one of them")
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; name a folder for the model")
    if resume and not unfinished:
        done = f"{out} is finished" if _holds_something(out) else "no run was started there"
        raise UsageError(f"there is nothing to resume at {folder.partial} ({done}); leave out --resume")
    if overwrite and _holds_something(out) and not (out / "config.json").is_file():
        raise UsageError(f"{out} is not a model folder (it has no config.json), so --overwrite leaves it; name another")
    if not resume and not overwrite:
        if _holds_something(out):
            raise UsageError(f"{out} exists; name another folder, or give --overwrite to replace it")
        if unfinished:
            raise UsageError(
                f"an unfinished run lies at {folder.partial}; give --resume to go on, or --overwrite to start again"
            )


def _holds_something(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _check_same(folder: RunFolder, record: dict[str, Any], defaults: dict[str, Any]) -> None:
    path = folder.partial / RECORD
    try:
        started = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read ({error}); give --overwrite to start again") from error
    now = _flat(json.loads(json.dumps(record)))
    then = {key: value for key, value in _flat({"settings": defaults}).items() if key in now} | _flat(started)
    # The digest tells the texts; the same file may be spelt another way, and the sketch says nothing to a reader.
    untold = {f"data.{part}.{field}" for part in ("train", "evaluation") for field in ("name", "sketch")}
    differing = [key for key in {**then, **now} if key not in untold and then.get(key) != now.get(key)]
    if differing:
        told = ", ".join(f"{key} was {then.get(key)!r} and is now {now.get(key)!r}" for key in differing)
        raise UsageError(
            f"cannot resume {folder.partial} with another request: {told}; ask as before, or give --overwrite"
        )


def _flat(record: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(record, dict):
        return {prefix: record}
    return {
        k: v for key, value in record.items() for k, v in _flat(value, f"{prefix}.{key}" if prefix else key).items()
    }
