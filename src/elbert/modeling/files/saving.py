"""Writing a model folder so that it is never half-written. Reading one is `load.py`'s work.

Everything is first written into a temporary folder. A new target then appears by one rename. In a target that exists,
`config.json` is taken away first and put back last, so an interruption leaves a folder that loading refuses, never a
mixture that it accepts.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import nn

from elbert.errors import UsageError
from elbert.metadata import metadata, write_metadata
from elbert.modeling.files.checks import EXIT_HEADS
from elbert.modeling.files.disk import FREE_SPACE, write_errors
from elbert.modeling.files.policies import TENSORS, Tensors, write_tensors
from elbert.modeling.quiet import quiet_transformers

_CARD = """---
library_name: transformers
pipeline_tag: text-classification
tags:
- elbert
- early-exit
---

# Early-exit text classifier

A plain {architecture} checkpoint with {layers} layers, trained so that every layer can answer. Any tool that reads
transformers checkpoints runs it at full depth; `elbert` lets each text leave at the first layer that is sure of it:

```python
from elbert import Classifier

Classifier.from_pretrained("this/folder").predict("a text")
```

Labels: {labels}.
"""


def save_model(
    backbone: Any,
    exit_heads: nn.Module | None,
    heads: str,
    folder: Path,
    tokenizer: Any = None,
    elbert: Mapping[str, Any] | None = None,
    card: str | None = None,
    tensors: Tensors | None = None,
) -> Path:
    """Write a whole model into `folder`: plain checkpoint, card, `elbert.json`, and extra exit heads if there are any.

    Args:
        backbone: the transformers classifier.
        exit_heads: heads of the exits before the last, or None.
        heads: their kind.
        folder: the target.
        tokenizer: saved along; None leaves the folder's own in place.
        elbert: content of `elbert.json`; `format` and `heads` are filled in.
        card: text of `README.md`; None writes a short one.
        tensors: weights of learned policies.

    Returns:
        `folder`.

    Raises:
        UsageError: `folder` is a file.
        ElbertError: the disk is full, or does not let us write.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"cannot save the model to {folder}: a file of that name exists; name a folder")
    with write_errors(f"the model {folder}", FREE_SPACE):
        home = folder if folder.exists() else folder.parent
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".elbert-", dir=home) as temporary:
            fresh = Path(temporary) / "model"
            _write(fresh, backbone, exit_heads, heads, tokenizer, elbert, card)
            write_tensors(fresh, tensors or {})
            _open_to_readers(fresh)
            _move(fresh, folder)
    return folder


def _write(
    folder: Path,
    backbone: Any,
    exit_heads: nn.Module | None,
    heads: str,
    tokenizer: Any,
    elbert: Mapping[str, Any] | None,
    card: str | None,
) -> None:
    with quiet_transformers():
        backbone.save_pretrained(folder)
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)
    if exit_heads is not None:
        tensors = {name: tensor.detach().contiguous() for name, tensor in exit_heads.state_dict().items()}
        save_file(tensors, folder / EXIT_HEADS, metadata={"format": "pt"})
    write_metadata(folder, metadata(elbert, heads))
    (folder / "README.md").write_text(_short_card(backbone.config) if card is None else card, encoding="utf-8")


def _short_card(config: Any) -> str:
    names = [str(config.id2label[index]) for index in sorted(config.id2label)]
    shown = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    return _CARD.format(
        architecture=(config.architectures or ["transformers"])[0], layers=config.num_hidden_layers, labels=shown
    )


def _open_to_readers(folder: Path) -> None:
    """Give every file the mode that `open` would have given it: safetensors writes for its owner only."""
    for path in folder.iterdir():
        path.chmod((folder / "README.md").stat().st_mode)


def _move(fresh: Path, folder: Path) -> None:
    if not folder.exists():
        fresh.rename(folder)
        return
    (folder / "config.json").unlink(missing_ok=True)
    stale = [EXIT_HEADS, TENSORS, "model.safetensors", "model.safetensors.index.json"]
    for name in stale:
        if not (fresh / name).exists():
            (folder / name).unlink(missing_ok=True)
    for path in sorted(fresh.iterdir(), key=lambda path: path.name == "config.json"):  # config.json comes last
        if path.is_dir() and (folder / path.name).is_dir():
            shutil.rmtree(folder / path.name)
        path.replace(folder / path.name)
