"""In which precision a run multiplies: bfloat16 where the machine does that in hardware."""

from __future__ import annotations

from typing import Any

import torch

from elbert.errors import UsageError


def computes_bfloat16() -> bool:
    """Say whether this machine multiplies bfloat16 matrices in hardware: a GPU that can, AVX512-bf16, or AMX."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


def choose_dtype(asked: str) -> str:
    """Return `float32` or `bfloat16`; `auto` is whichever this machine is faster in.

    Raises:
        UsageError: this GPU cannot compute bfloat16.
    """
    if asked == "auto":
        return "bfloat16" if computes_bfloat16() else "float32"
    if asked == "bfloat16" and torch.cuda.is_available() and not torch.cuda.is_bf16_supported():
        raise UsageError("dtype is bfloat16 but this GPU cannot compute it; use float32 or auto")
    return asked
