"""Who can be raced, by name. To add a system: copy the nearest file here, change it, and add a line to `SYSTEMS`.

A system's module has `load(job, spec)`, which returns what classifies texts, and where files have to be made first
`build(job, spec)`, which makes them in `job.scratch` in a process of its own, so that the memory it takes is not the
system's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from elbert.engine.backends.backend import BACKENDS
from elbert.engine.layers.int8 import saturates
from elbert.engine.placement import most_tokens
from elbert.errors import UsageError, did_you_mean
from elbert.evaluation.bench.job import Spec

_HERE = "elbert.evaluation.bench.systems"

# What there is to compute in, by the kind of device.
DTYPES = {"cpu": ("float32", "bfloat16", "int8"), "cuda": ("float32", "bfloat16", "float16")}

# What every ratio is to.
REFERENCE = ("transformers", "float32")


@dataclass(frozen=True, slots=True)
class Kind:
    """One line of the table.

    Attributes:
        module: where its `load` is.
        settings: what a reader has to know to repeat it.
        dtypes: what it can compute in; for ours the backend says.
        builds: whether the module has a `build`.
        devices: the kinds of device it is set up for here.
    """

    module: str
    settings: str
    dtypes: tuple[str, ...] = ()
    builds: bool = False
    devices: tuple[str, ...] = ("cpu",)


_BOTH = ("cpu", "cuda")
_FLOATS = ("float32", "bfloat16", "float16")
_OWN = ("float32", "bfloat16", "int8")

# What a batch of a peer that is called on padded batches is held to; see `batches.held`.
_BATCHES = "sorted padded batches of at most {:,} tokens ({:,} in bfloat16, {:,} on a GPU)".format(
    most_tokens(torch.device("cpu"), torch.float32),
    most_tokens(torch.device("cpu"), torch.bfloat16),
    most_tokens(torch.device("cuda"), torch.float16),
)

SYSTEMS: dict[str, Kind] = {
    "elbert": Kind(f"{_HERE}.ours", "Classifier.stream with exits; batch is texts in flight", devices=_BOTH),
    "elbert-full": Kind(f"{_HERE}.ours", "Classifier.stream at full depth", devices=_BOTH),
    "elbert-fixed": Kind(
        f"{_HERE}.ours", "Classifier.stream, all texts leave at the exits' mean layer, rounded", devices=_BOTH
    ),
    "transformers": Kind(
        f"{_HERE}.pipeline",
        "pipeline('text-classification'), texts given in order of length, known to it for nothing",
        _FLOATS,
        devices=_BOTH,
    ),
    "transformers-batches": Kind(
        f"{_HERE}.eager", f"the model called on {_BATCHES}, sdpa attention", _FLOATS, devices=_BOTH
    ),
    "torch-compile": Kind(f"{_HERE}.compiled", f"torch.compile(dynamic=True) on {_BATCHES}", _FLOATS, devices=_BOTH),
    "onnxruntime": Kind(
        f"{_HERE}.onnxruntime",
        f"whole model as one ONNX graph on {_BATCHES}, CPU provider, the library's defaults; int8: dynamic, per "
        "channel, after pre-process",
        ("float32", "int8"),
        builds=True,
    ),
    "openvino": Kind(
        f"{_HERE}.openvino",
        f"whole model as one graph on {_BATCHES}, PERFORMANCE_HINT LATENCY; int8: NNCF post-training, transformer, up "
        "to 300 texts",
        ("float32", "bfloat16", "int8"),
        builds=True,
    ),
    "elbert-waits": Kind(
        f"{_HERE}.batching", f"ours, but a batch answers when all of it is sure (PABEE's code); {_BATCHES}", _OWN
    ),
    "elbert-sorted": Kind(
        f"{_HERE}.batching",
        f"the same, texts sorted by their exit layer, known to it for nothing (GEEP at best); {_BATCHES}",
        _OWN,
    ),
    "elbert-split": Kind(
        f"{_HERE}.batching", "ours, but rows at different depths never step together (E3, one machine)", _OWN
    ),
}

# Said of a peer in int8 where its products would saturate, see `saturates`.
_NARROW = "; weights of 7 bits, as this CPU has no VNNI and sums of 8-bit products would saturate"

OURS = ("elbert", "elbert-full", "elbert-fixed")
PEERS = tuple(name for name in SYSTEMS if name not in OURS)
BATCHINGS = ("elbert-waits", "elbert-sorted", "elbert-split")  # peers that run our layers and our exits


def settings_of(spec: Spec) -> str:
    """Return what a reader has to know to repeat a system's numbers on this machine."""
    narrow = spec.dtype == "int8" and spec.system not in (*OURS, *BATCHINGS) and saturates()
    return SYSTEMS[spec.system].settings + (_NARROW if narrow else "")


def check_names(names: Sequence[str], allowed: Sequence[str], what: str) -> tuple[str, ...]:
    """Return the names, each once.

    Args:
        names: as given.
        allowed: every name there is.
        what: what they name, to start the error line with.

    Raises:
        UsageError: one is unknown; the line names the closest.
    """
    for name in names:
        if name not in allowed:
            raise UsageError(f"unknown {what} {name!r}{did_you_mean(name, allowed)}")
    return tuple(dict.fromkeys(names))


def line_up(
    policy: dict[str, Any],
    *,
    against: Sequence[str],
    backends: Sequence[str],
    dtypes: Sequence[str],
    device: str = "cpu",
) -> list[Spec]:
    """Return everybody who runs: ours with exits, at full depth and at a fixed depth, then every peer.

    Args:
        policy: the exits of ours, as JSON.
        against: names of peers.
        backends: of ours.
        dtypes: for everyone; a system that can't compute in one does not run in it, nor does anyone in one that the
            device has not.
        device: where, `cpu` or a CUDA device.

    Raises:
        UsageError: an unknown name, or dtypes that none of ours computes in.
    """
    against = check_names(against, PEERS, "system to race against")
    backends = check_names(["torch" if name == "auto" else name for name in backends], tuple(BACKENDS), "backend")
    known = tuple(dict.fromkeys(name for names in DTYPES.values() for name in names))
    asked = check_names(["float32" if name == "auto" else name for name in dtypes], known, "dtype")
    dtypes = [name for name in asked if name in DTYPES[_kind_of(device)]]
    ours = [
        Spec(system, backend, dtype, given)
        for backend in backends
        for dtype in dtypes
        if dtype in BACKENDS[backend].dtypes
        for system, given in zip(OURS, (policy, {"name": "full"}, None), strict=True)
    ]
    if not ours:
        raise UsageError(
            f"backend {', '.join(backends)} does not compute in {', '.join(asked)} on {device}; "
            "add --dtype float32 for a race"
        )
    peers = [(name, policy if name in BATCHINGS else None) for name in against]
    return ours + [
        Spec(name, _library(name), d, own) for name, own in peers for d in SYSTEMS[name].dtypes if d in dtypes
    ]


def check_device(system: str, device: str) -> None:
    """Raise UsageError where a system is not set up for a device."""
    if _kind_of(device) not in SYSTEMS[system].devices:
        raise UsageError(f"runs on the CPU here, not on {device}")


def _kind_of(device: str) -> str:
    return device.partition(":")[0]


def _library(name: str) -> str:
    return name if name in BACKENDS else "torch"
