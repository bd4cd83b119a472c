"""Where, in which precision and in how large steps to compute."""

from __future__ import annotations

import torch

from elbert.errors import UsageError, did_you_mean

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "int8": torch.int8}


def choose_device(name: str) -> str:
    """Return the device asked for; `auto` is CUDA where there is one, and every CPU (`cpu:0` too) is `cpu`.

    Raises:
        UsageError: unknown, or not on this machine.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    device: torch.device | None
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise UsageError(f"unknown device {name!r}; allowed: auto, cpu, cuda, cuda:N")
    found = torch.cuda.device_count()
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= found):
        raise UsageError(f"device {name!r} was asked for but torch finds {found} CUDA devices; use cpu, or auto")
    return "cpu" if device.type == "cpu" else name


def choose_dtype(name: str, device: str) -> str:
    """Return the dtype asked for; `auto` is float32 on a CPU and bfloat16 on CUDA.

    Raises:
        UsageError: unknown, or not for this device.
    """
    if name == "auto":
        return "float32" if device == "cpu" else "bfloat16"
    if name not in DTYPES:
        raise UsageError(f"unknown dtype {name!r}{did_you_mean(name, ['auto', *DTYPES])}")
    if name == "float16" and device == "cpu":
        raise UsageError("dtype float16 needs a CUDA device; on a CPU use float32, bfloat16 or int8")
    return name


def most_tokens(device: torch.device, dtype: torch.dtype) -> int:
    """Return how many tokens to step together on this device in this dtype, unless told otherwise.

    On a CPU larger steps were measured to be slower, see docs/engine.md, and what lies between two products of an int8
    layer is float32; a GPU takes more to be full.
    """
    if device.type != "cpu":
        return 16_384
    return 4096 if dtype == torch.bfloat16 else 1024
