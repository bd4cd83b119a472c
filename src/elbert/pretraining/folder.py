"""What a run keeps while it is under way, and the encoder folder it ends in.

A run lives in `OUT.partial` (see `elbert.runs.folder`): `run.json`, `corpus.npz`, the tokenizer, the checkpoint
and `log.jsonl`. `OUT` appears whole when the run is over: an ordinary encoder checkpoint with its card, and
`pretraining.json`, which says how it was made.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from elbert.errors import ElbertError, ModelError
from elbert.modeling.files.saving import save_tokenizer
from elbert.modeling.quiet import quiet_transformers
from elbert.pretraining.progress import Progress, Report

CHECKPOINT = "checkpoint.safetensors"
CORPUS = "corpus.npz"
LOG = "log.jsonl"
STORY = "pretraining.json"

_CARD = """---
library_name: transformers
tags:
- elbert
- albert
---

# ALBERT encoder

{parameters:,} parameters: {layers} layers {sharing}, {hidden_size} units wide, {vocab_size:,} words.
Pretrained with `elbert pretrain` on {tokens:,} tokens{teacher}; how, in `pretraining.json`. Fine-tune it with

```bash
elbert train DATA --model THIS_FOLDER --out DIR
```
"""


def save_checkpoint(folder: Path, tensors: dict[str, Tensor], progress: Progress) -> None:
    """Write a checkpoint: one file that is there whole or not at all."""
    part = folder / f"{CHECKPOINT}.part"
    save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()},
        part,
        metadata={"progress": json.dumps(asdict(progress))},
    )
    part.replace(folder / CHECKPOINT)


def load_checkpoint(folder: Path) -> tuple[dict[str, Tensor], Progress]:
    """Read what `save_checkpoint` wrote.

    Raises:
        ElbertError: the file is damaged.
    """
    path = folder / CHECKPOINT
    try:
        with safe_open(path, "pt") as stored:
            progress = Progress(**json.loads(stored.metadata()["progress"]))
            return {name: stored.get_tensor(name) for name in stored.keys()}, progress  # noqa: SIM118 - no mapping
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ElbertError(f"checkpoint {path} is damaged ({error}); start again with --overwrite") from error


def log_report(folder: Path, report: Report) -> None:
    """Add one line to the run's log."""
    with (folder / LOG).open("a", encoding="utf-8") as log:
        log.write(json.dumps(report.to_dict()) + "\n")


def write_encoder(folder: Path, model: Any, weights: dict[str, Tensor], tokenizer: Any) -> None:
    """Write an encoder as an ordinary checkpoint: float16 on disk, float32 when loaded.

    Args:
        folder: where to.
        model: the transformers model whose class and configuration are written; it is not changed.
        weights: float32 values under its own names.
        tokenizer: saved beside it as a plain `tokenizer.json`.

    Raises:
        ModelError: a weight does not fit float16.
    """
    half = {name: value.to(torch.float16) for name, value in weights.items()}
    beyond = [name for name, value in half.items() if not torch.isfinite(value).all()]
    if beyond:
        raise ModelError(f"tensor {beyond[0]} holds values that float16 cannot; the training diverged")
    with quiet_transformers():
        model.save_pretrained(folder, state_dict=half)
    save_tokenizer(folder, tokenizer, token_types="token_type_ids" in tokenizer.model_input_names)
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | {"dtype": "float32"}
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def write_story(folder: Path, story: dict[str, Any], config: Any, teacher: str | None) -> None:
    """Write the card and `pretraining.json`.

    Args:
        folder: the encoder's.
        story: the run's record, its summary and its log.
        config: the encoder's configuration.
        teacher: its teacher's name, if it had one.
    """
    (folder / STORY).write_text(json.dumps(story, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    groups = config.num_hidden_groups
    card = _CARD.format(
        parameters=story["summary"]["parameters"],
        tokens=story["summary"]["tokens"],
        layers=config.num_hidden_layers,
        sharing="that share their weights" if groups == 1 else f"in {groups} groups with weights of their own",
        hidden_size=config.hidden_size,
        vocab_size=config.vocab_size,
        teacher=f", distilled from `{teacher}`" if teacher else "",
    )
    (folder / "README.md").write_text(card, encoding="utf-8")
