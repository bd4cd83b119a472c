"""Files held open, to be read once more as they were: saving puts another file in the place of one."""

from __future__ import annotations

import os
import weakref
from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import load
from torch import Tensor

from elbert.modeling.files.checks import EXIT_HEADS


class HeldFiles:
    """Safetensors files of a model, open for as long as this object lives; it costs no memory.

    Args:
        paths: of the files; one that is not there is passed over, for whoever reads it to say so.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._files = {path.name: os.open(path, os.O_RDONLY) for path in paths if path.is_file()}
        weakref.finalize(self, _close, list(self._files.values()))

    def tensors(self) -> dict[str, Tensor]:
        """Return those of the checkpoint, by name and as they are stored."""
        return {
            name: tensor
            for file, number in self._files.items()
            if file != EXIT_HEADS
            for name, tensor in load(_content(number)).items()
        }

    def exit_heads(self) -> dict[str, Tensor]:
        """Return those of the exits before the last."""
        return load(_content(self._files[EXIT_HEADS]))


def _content(number: int) -> bytes:
    size, parts, read = os.fstat(number).st_size, [], 0
    while read < size and (part := os.pread(number, size - read, read)):
        parts.append(part)
        read += len(part)
    return b"".join(parts)


def _close(numbers: Sequence[int]) -> None:
    for number in numbers:
        os.close(number)
