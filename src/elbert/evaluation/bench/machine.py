"""What a number has to be read with: the processor, what it can do, and the versions of everything that computed."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

_LIBRARIES = ("elbert", "torch", "transformers", "tokenizers", "numpy", "onnx", "onnxruntime", "openvino", "nncf")

# What decides which products are fast, under the names Linux uses.
_FLAGS = {
    "avx512": "avx512f",
    "avx512_vnni": "avx512_vnni",
    "avx_vnni": "avx_vnni",
    "avx512_bf16": "avx512_bf16",
    "amx": "amx_tile",
    "amx_bf16": "amx_bf16",
    "amx_int8": "amx_int8",
}


def machine() -> dict[str, Any]:
    """Return the processor's name, the cores this process may use, which wide instructions there are, and the GPU.

    The instructions are None where the system does not say, and so is the GPU where there is none.
    """
    info = _cpu_info()
    flags = info.get("flags", "").split()
    return {
        "cpu": info.get("model name") or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": f"{platform.system()} {platform.release()}",
        **{name: flag in flags if flags else None for name, flag in _FLAGS.items()},
    }


def versions() -> dict[str, str]:
    """Return the version of Python and of every library that is installed."""
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _cpu_info() -> dict[str, str]:
    """Return the first processor's lines of Linux's list; nothing on other systems."""
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return {}
    first = path.read_text().partition("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}
