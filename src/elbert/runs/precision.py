"""In which precision a run multiplies: bfloat16 where the machine does that in hardware, float16 on older GPUs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from elbert.errors import UsageError


def computes_bfloat16() -> bool:
    """Say whether this machine multiplies bfloat16 matrices in hardware: a GPU that can, AVX512-bf16, or AMX."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities: Mapping[str, Any] = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


def choose_dtype(asked: str, *, scaled: bool = False) -> str:
    """Return `float32`, `bfloat16` or `float16`; `auto` is whichever this machine is fastest in.

    Args:
        asked: one of them, or `auto`.
        scaled: whether the run scales its loss, without which gradients are too small for float16; only then is it
            chosen, on a GPU that has no bfloat16.

    Raises:
        UsageError: this GPU cannot compute bfloat16, or there is no GPU for float16.
    """
    if asked == "auto":
        narrow = "float16" if scaled and torch.cuda.is_available() else "float32"
        return "bfloat16" if computes_bfloat16() else narrow
    if asked == "float16" and not torch.cuda.is_available():
        raise UsageError("dtype is float16 but there is no GPU for it; use bfloat16, float32 or auto")
    if asked == "bfloat16" and torch.cuda.is_available() and not torch.cuda.is_bf16_supported():
        raise UsageError("dtype is bfloat16 but this GPU cannot compute it; use float32 or auto")
    return asked
