"""What runs the layers, by name; the scheduler and the policies are the same above all of them.

A backend embeds, steps and reads out packed rows. To add one: a function that makes it, and a line in `BACKENDS`.
Heads, and with other backends than torch the embedding too, are always computed in fp32.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from elbert.engine.backends.graphs import build_graphs
from elbert.engine.backends.runtimes import Array, Run, Runtime, onnxruntime, openvino
from elbert.engine.backends.torch import TorchBackend
from elbert.engine.placement import choose_dtype
from elbert.engine.rows.packed import Layout
from elbert.errors import ModelError, UsageError, did_you_mean
from elbert.modeling.files.exported import Graph, Graphs
from elbert.modeling.weights import EncoderWeights

AUTO = "auto"

# Added to the attention scores of places that hold no token: their weight is then exactly 0.
_NOTHING = np.float32(-1e9)


class Backend(Protocol):
    """Runs the parts of a model on packed rows ([size, H], see `elbert.engine.rows.packed`).

    Attributes:
        name: the word users write.
        dtype: what the layers compute in.
        device: where hidden states lie.
        shared_heads: True where every exit has the same head.
    """

    name: str
    dtype: torch.dtype
    device: torch.device
    shared_heads: bool

    def embed(self, ids: Tensor, token_types: Tensor | None, layout: Layout) -> Tensor:
        """Return [size, H] for packed `ids` ([size] int64); `token_types` None means all zero."""

    def step(self, hidden: Tensor, layout: Layout, depth: int) -> tuple[Tensor, Layout]:
        """Run encoder step `depth` (0-based) on packed `hidden` [size, H].

        Returns:
            The new [size, H] and where its rows lie: `layout` itself, unless the step dropped tokens.
        """

    def head(self, read: Tensor, depth: int) -> tuple[Tensor, Tensor]:
        """Return (logits [rows, C], pooled [rows, H]) in fp32 of exit `depth` (0-based) for `read` [rows, H]."""


@dataclass(frozen=True, slots=True)
class BackendKind:
    """One line of the table.

    Attributes:
        runtime: what runs graphs, looked up when asked for; None for torch, which runs the matrices themselves.
        dtypes: what its layers can compute in.
    """

    runtime: Callable[[], Runtime] | None
    dtypes: tuple[str, ...]


BACKENDS: dict[str, BackendKind] = {
    "torch": BackendKind(None, ("float32", "bfloat16", "float16", "int8")),
    "openvino": BackendKind(openvino, ("float32", "bfloat16")),
    "onnxruntime": BackendKind(onnxruntime, ("float32",)),
}


def choose_backend(name: str, exported_for: str | None = None) -> str:
    """Return the backend a user means.

    Args:
        name: a name of the table, or "auto": torch, or for an exported model the one that reads its graphs.
        exported_for: that one; None for a model with weights.

    Raises:
        UsageError: an unknown name, or one that can't read the exported graphs.
    """
    if name not in (AUTO, *BACKENDS):
        raise UsageError(f"unknown backend {name!r}{did_you_mean(name, (AUTO, *BACKENDS))}")
    if exported_for is None:
        return "torch" if name == AUTO else name
    if name not in (AUTO, exported_for):
        raise UsageError(
            f"the model was exported for the backend {exported_for}, so {name} cannot run it; "
            f"use {AUTO}, or the model it was exported from"
        )
    return exported_for


def make_backend(
    name: str, weights: EncoderWeights, dtype: torch.dtype, device: torch.device, graphs: Graphs | None = None
) -> Backend:
    """Return the backend called `name`, ready to run.

    Args:
        name: one of the table, see `choose_backend`.
        weights: the model as plain matrices.
        dtype: what the layers compute in.
        device: where; only torch knows others than the CPU.
        graphs: the model's exported graphs; None builds them from the weights where the backend needs any.

    Raises:
        UsageError: the backend does not know this dtype or device.
        MissingExtraError: its library is not installed.
        ModelError: it can't read the graphs, or they can't say what the model does.
    """
    kind = BACKENDS[name]
    known = str(dtype).removeprefix("torch.")
    if kind.runtime is None:
        choose_dtype(known, device.type)  # refuses what does not go together
        return TorchBackend(weights, dtype, device)
    if known not in kind.dtypes:
        raise UsageError(f"backend {name} does not compute in {known}; allowed: {', '.join(kind.dtypes)}")
    if device.type != "cpu":
        raise UsageError(f"backend {name} runs on the CPU, not on {device}; use device cpu, or backend torch")
    runtime = kind.runtime()
    backend = GraphBackend(name, runtime, build_graphs(weights) if graphs is None else graphs, dtype)
    if graphs is not None:
        _check_heads(backend, graphs, weights)
    return backend


def _check_heads(backend: GraphBackend, graphs: Graphs, weights: EncoderWeights) -> None:
    """Refuse heads that do not fit the configuration beside them: their answers would have other classes' names."""
    read = torch.zeros(1, weights.hidden_size)
    for depth, head in enumerate(graphs.heads):
        if head in graphs.heads[:depth]:
            continue
        try:
            found = f"gives {backend.head(read, depth)[0].shape[-1]} values"
        except Exception as error:  # noqa: BLE001 - of whatever kind the runtime raises
            found = f"does not run ({' '.join(str(error).split())[:200]})"
        wanted = f"gives {weights.num_labels} values"
        if found != wanted:
            raise ModelError(
                f"{head!s} {found}, where config.json beside it has {weights.num_labels} classes and hidden_size "
                f"{weights.hidden_size}: restore config.json, or export the model again"
            )


class GraphBackend:
    """Embed, step and head as graphs that a runtime runs on the CPU. Calls from several threads wait for each other.

    Args:
        name: the backend's.
        runtime: what runs graphs.
        graphs: the model.
        dtype: what the steps compute in; hidden states between them are fp32.
    """

    def __init__(self, name: str, runtime: Runtime, graphs: Graphs, dtype: torch.dtype) -> None:
        self.name = name
        self.dtype = dtype
        self.device = torch.device("cpu")
        self.shared_heads = all(head is graphs.heads[0] for head in graphs.heads)
        self._token_types, self._positions = graphs.token_types, graphs.positions
        self._embed = runtime(graphs.embed, ("hidden",), torch.float32)
        self._steps = _loaded_once(runtime, graphs.steps, ("stepped",), dtype)
        self._heads = _loaded_once(runtime, graphs.heads, ("logits", "pooled"), torch.float32)
        self._lock = threading.Lock()
        self._padding: tuple[Layout, dict[str, Array]] | None = None

    def embed(self, ids: Tensor, token_types: Tensor | None, layout: Layout) -> Tensor:
        """Return [size, H] for packed `ids` ([size] int64); `token_types` None means all zero."""
        feeds = {"ids": ids.numpy()}
        if self._positions:
            feeds["positions"] = layout.positions().numpy()
        if self._token_types:
            feeds["token_types"] = np.zeros_like(feeds["ids"]) if token_types is None else token_types.numpy()
        return self._run(self._embed, feeds)[0]

    def step(self, hidden: Tensor, layout: Layout, depth: int) -> tuple[Tensor, Layout]:
        """Run encoder step `depth` (0-based) on packed `hidden` [size, H]; `layout` stays."""
        padding = self._padding
        if padding is None or padding[0] is not layout:  # rows that nobody leaves or joins keep their layout
            padding = self._padding = (layout, _padding(layout))
        return self._run(self._steps[depth], {"hidden": hidden.numpy(), **padding[1]})[0], layout

    def head(self, read: Tensor, depth: int) -> tuple[Tensor, Tensor]:
        """Return (logits [rows, C], pooled [rows, H]) in fp32 of exit `depth` (0-based) for `read` [rows, H]."""
        logits, pooled = self._run(self._heads[depth], {"cls": read.numpy()})
        return logits, pooled

    def _run(self, graph: Run, feeds: dict[str, Array]) -> list[Tensor]:
        with self._lock:
            return [torch.from_numpy(answer) for answer in graph(feeds)]


def _loaded_once(
    runtime: Runtime, graphs: tuple[Graph, ...], outputs: tuple[str, ...], dtype: torch.dtype
) -> list[Run]:
    """Load every distinct graph once, so that shared layers stay one."""
    distinct = {id(graph): graph for graph in graphs}
    loaded = {key: runtime(graph, outputs, dtype) for key, graph in distinct.items()}
    return [loaded[id(graph)] for graph in graphs]


def _padding(layout: Layout) -> dict[str, Array]:
    """Return what a step needs to lay packed tokens out as one block, padded to the longest, and bring them back."""
    lengths = layout.lengths[:, None]
    place = np.arange(lengths.max())
    real = place < lengths
    unpad = np.zeros(layout.size, np.int64)  # filler repeats the first place
    unpad[: layout.tokens] = np.flatnonzero(real)
    return {
        "pad": layout.starts.numpy()[:, None] + np.minimum(place, lengths - 1),
        "unpad": unpad,
        "mask": np.where(real, np.float32(0), _NOTHING)[:, None, None, :],
    }
