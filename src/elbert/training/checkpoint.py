"""What a run needs to go on as if it had never stopped: weights, scheme, optimiser, schedule, random generators.

Written and read as safetensors and JSON only. Which checkpoints to keep is the trainer's business.
"""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from elbert.errors import ModelError

WEIGHTS = "model.safetensors"
OPTIMIZER = "optimizer.safetensors"
GENERATORS = "generators.safetensors"
STATE = "resume.json"
_AGAIN = "train again with --overwrite"


def save(folder: Path, model: nn.Module, optimizer: Any, scheduler: Any, scaler: Any = None) -> None:
    """Write everything but the trainer's own counters into `folder`; a scaler of the loss is float16's alone."""
    save_file(_contiguous(model.state_dict()), folder / WEIGHTS)
    optimizer_state = optimizer.state_dict()
    tensors, plain = _flatten(optimizer_state["state"])
    save_file(tensors, folder / OPTIMIZER)
    generators, python, numpy = _read_generators()
    save_file(generators, folder / GENERATORS)
    content = {
        "optimizer": {"state": plain, "param_groups": optimizer_state["param_groups"]},
        "scheduler": scheduler.state_dict(),
        "scaler": None if scaler is None else scaler.state_dict(),
        "python": python,
        "numpy": numpy,
    }
    (folder / STATE).write_text(json.dumps(content), encoding="utf-8")


def remove(folder: Path) -> None:
    """Delete a checkpoint; its name goes first, so that what a kill leaves is not taken for a whole one."""
    doomed = folder.with_name(f".{folder.name}.old")
    folder.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def load_weights(folder: Path, model: nn.Module) -> None:
    """Put the weights of model and scheme back.

    Raises:
        ModelError: the file is damaged or belongs to another model.
    """
    path = folder / WEIGHTS
    try:
        model.load_state_dict(_read_tensors(path))
    except RuntimeError as error:
        raise ModelError(f"checkpoint {path} is of another model: {str(error).splitlines()[0]}") from error


def load_optimizer(folder: Path, optimizer: Any, scheduler: Any) -> None:
    """Put optimiser and schedule back."""
    content = _read_state(folder)
    state: dict[int, dict[str, Any]] = {int(index): dict(own) for index, own in content["optimizer"]["state"].items()}
    for name, tensor in _read_tensors(folder / OPTIMIZER).items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": content["optimizer"]["param_groups"]})
    scheduler.load_state_dict(content["scheduler"])


def load_scaler(folder: Path, scaler: Any) -> None:
    """Put the scaler of the loss back, where the run has one."""
    if scaler is not None and (state := _read_state(folder).get("scaler")):
        scaler.load_state_dict(state)


def load_generators(folder: Path) -> None:
    """Put Python's, numpy's and torch's random generators back."""
    content, tensors = _read_state(folder), _read_tensors(folder / GENERATORS)
    version, numbers, gauss = content["python"]
    random.setstate((version, tuple(numbers), gauss))
    kind, keys, *rest = content["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))  # noqa: NPY002 - the global one is meant
    torch.set_rng_state(tensors["cpu"])
    if "cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["cuda"])


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"checkpoint {path} cannot be read: {str(error).splitlines()[0]}; {_AGAIN}") from error


def _read_state(folder: Path) -> dict[str, Any]:
    path = folder / STATE
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"checkpoint {path} cannot be read: {error}; {_AGAIN}") from error
    return content


def _read_generators() -> tuple[dict[str, Tensor], Any, Any]:
    tensors = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors["cuda"] = torch.cuda.get_rng_state()
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002 - the global one is meant
    return tensors, random.getstate(), [kind, np.asarray(keys).tolist(), *rest]


def _flatten(state: dict[int, dict[str, Any]]) -> tuple[dict[str, Tensor], dict[int, dict[str, Any]]]:
    """Split an optimiser's state into tensors by `index.key` and what is no tensor."""
    tensors: dict[str, Tensor] = {}
    plain: dict[int, dict[str, Any]] = {}
    for index, own in state.items():
        for key, value in own.items():
            if isinstance(value, Tensor):
                tensors[f"{index}.{key}"] = value
            else:
                plain.setdefault(index, {})[key] = value
    return _contiguous(tensors), plain


def _contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
