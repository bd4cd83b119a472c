"""Writing a model folder, whole or not at all. Reading one is `load.py`'s and `plain.py`'s work.

A folder that holds a model is replaced: whatever a model has of files there goes, since a file of an older one would
change the new one (a vocabulary, a map of special tokens, learned policies). Files that are no model's, the user's
notes or pictures, stay, and so does a README that elbert did not write.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import nn

from elbert.disk import FREE_SPACE, whole_folder, write_errors, write_whole
from elbert.errors import UsageError
from elbert.metadata import metadata, read_json, write_metadata
from elbert.modeling.files.checks import EXIT_HEADS
from elbert.modeling.files.plain_tokenizer import inputs_of
from elbert.modeling.files.policies import Tensors, write_tensors
from elbert.modeling.files.sources import TOKENIZER_BESIDE, TOKENIZER_FILES
from elbert.modeling.files.words import write_words
from elbert.modeling.quiet import quiet_transformers
from elbert.words import WordModel

CARD = "README.md"

# Arguments of the call that loaded a tokenizer, which transformers 5 writes down as if they were its own.
_OF_THE_LOADER = ("is_local", "local_files_only", "trust_remote_code", "use_fast", "_commit_hash", "name_or_path")

# What belongs to the model in a model folder: ours and other tools' names for the same things.
_OF_A_MODEL = (
    "config.json",
    "elbert.json",
    "*.safetensors",
    "*.safetensors.index.json",
    *TOKENIZER_FILES,
    *TOKENIZER_BESIDE,
    "graphs",
    "rules",
    "run.py",
    "training_log.jsonl",
    "pretraining.json",
    "generation_config.json",
    "pytorch_model*.bin",
    "pytorch_model.bin.index.json",
    "tf_model.h5",
    "flax_model.msgpack",
    "adapter_config.json",
    "modules.json",
    "model_head.pkl",
)

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
    words: WordModel | None = None,
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
        words: layer 0, or None.

    Returns:
        `folder`.

    Raises:
        UsageError: `folder` is a file.
        ElbertError: the disk is full, or does not let us write.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"cannot save the model to {folder}: a file of that name exists; name a folder")
    own = (*TOKENIZER_FILES, *TOKENIZER_BESIDE) if tokenizer is None else ()
    with (
        write_errors(f"the model {folder}", FREE_SPACE),
        whole_folder(folder, kept=lambda path: path.name in own or not of_a_model(path.name)) as fresh,
    ):
        _write(fresh, backbone, exit_heads, heads, tokenizer, elbert, card)
        write_tensors(fresh, tensors or {})
        write_words(fresh, words)
        if card is None and _users_card(folder / CARD):
            (fresh / CARD).unlink()
        open_to_readers(fresh)
    return folder


def of_a_model(name: str) -> bool:
    """Say whether a file or folder of this name in a model folder belongs to the model."""
    return any(fnmatch(name, pattern) for pattern in _OF_A_MODEL)


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
            save_tokenizer(folder, tokenizer, token_types=bool(elbert and elbert.get("pair_token_types")))
    if exit_heads is not None:
        tensors = {name: tensor.detach().contiguous() for name, tensor in exit_heads.state_dict().items()}
        save_file(tensors, folder / EXIT_HEADS, metadata={"format": "pt"})
    write_metadata(folder, metadata(elbert, heads))
    (folder / CARD).write_text(_short_card(backbone.config) if card is None else card, encoding="utf-8")


def save_tokenizer(folder: Path, tokenizer: Any, *, token_types: bool) -> None:
    """Write a tokenizer so that transformers 4.57, and servers built on it, read it as transformers 5 does.

    Args:
        folder: the model's.
        tokenizer: transformers' own.
        token_types: whether it is to give the model token types of a pair; said in the file, as the versions disagree.
    """
    with quiet_transformers():
        tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    settings = {name: value for name, value in read_json(path).items() if name not in _OF_THE_LOADER}
    settings["model_input_names"] = inputs_of(token_types=token_types)
    if settings.get("tokenizer_class") == "TokenizersBackend":
        settings["tokenizer_class"] = "PreTrainedTokenizerFast"  # its name in version 4, which version 5 knows too
    if isinstance(settings.get("extra_special_tokens"), list):
        settings["additional_special_tokens"] = settings.pop("extra_special_tokens")
    write_whole(path, json.dumps(settings, indent=2, ensure_ascii=False, sort_keys=True) + "\n")


def _short_card(config: Any) -> str:
    names = [str(config.id2label[index]) for index in sorted(config.id2label)]
    shown = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    return _CARD.format(
        architecture=(config.architectures or ["transformers"])[0], layers=config.num_hidden_layers, labels=shown
    )


def _users_card(path: Path) -> bool:
    """Say whether a README is the user's own: elbert's cards name elbert among their tags."""
    try:
        return path.is_file() and "\n- elbert\n" not in path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return True


def open_to_readers(folder: Path) -> None:
    """Give every file the mode that `open` would have given it: safetensors writes for its owner only."""
    mode = (folder / "config.json").stat().st_mode
    for path in folder.iterdir():
        if path.is_file():
            path.chmod(mode)
