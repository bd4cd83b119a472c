"""Exported folders: a model whose layers are graph files for another runtime instead of tensors.

Such a folder holds `config.json`, the tokenizer and `elbert.json`, and no weights that torch could read. Here it is
read back as a model that knows its shapes and classes, and where its graphs are; running them is the engine's work.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch

from elbert.errors import ModelError, UsageError
from elbert.metadata import FILE_NAME, HeadKind
from elbert.modeling.assemble import encoder_weights
from elbert.modeling.families import family_of
from elbert.modeling.heads import exit_shapes
from elbert.modeling.weights import EncoderWeights

# Key of `elbert.json` under which an exported folder describes itself.
EXPORT = "export"

Graph = bytes | Path


@dataclass(frozen=True)
class Graphs:
    """A model as graphs, in memory or as files; `elbert.engine.backends.graphs` says what goes in and out of each.

    Attributes:
        embed: the embedding.
        steps: M of them, one per exit; the same object wherever exits share their layers.
        heads: M of them likewise.
        token_types: True where `embed` reads `token_types`.
        positions: True where it reads `positions`; other models know places in their layers.
    """

    embed: Graph
    steps: tuple[Graph, ...]
    heads: tuple[Graph, ...]
    token_types: bool
    positions: bool = True


class ExportedModel:
    """A model without weights: configuration and shapes, with its layers as graphs.

    Attributes:
        config: its configuration.
        heads: kind of its exit heads.
        folder: where it lies.
        backend: the engine's backend that reads the graphs.
        dtype: the precision they were exported for.
        graphs: the files.
        pair_token_types: whether it reads token types 0 and 1 of the two texts of a pair.
    """

    def __init__(self, config: Any, heads: HeadKind, folder: Path, export: Mapping[str, Any]) -> None:
        self.config = config
        self.heads = heads
        self.folder = folder
        self.backend = str(export["backend"])
        self.dtype = str(export["dtype"])
        self.pair_token_types = bool(export["pair_token_types"])
        files: dict[str, Path] = {}  # one object per name: shared graphs stay shared
        steps, layer_heads = (
            tuple(files.setdefault(str(name), _graph(folder, name)) for name in export[key])
            for key in ("steps", "heads")
        )
        inputs = bool(export["token_types"]), bool(export.get("positions", True))
        self.graphs = Graphs(_graph(folder, export["embed"]), steps, layer_heads, *inputs)

    def weights(self) -> EncoderWeights:
        """Return the matrices' shapes: tensors without memory."""
        config, family = self.config, family_of(self.config)
        exits = exit_shapes(self.heads, family, config)
        tensors, heads = (
            {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
            for shapes in (family.shapes(config), exits)
        )
        return encoder_weights(family, config, tensors, heads or None, self.heads)

    def save_pretrained(self, *args: Any, **kwargs: Any) -> NoReturn:  # noqa: ARG002
        """Refuse: there are no weights here."""
        self.refuse("saved as a checkpoint")

    def refuse(self, what: str) -> NoReturn:
        """Say that what was asked for needs the weights.

        Args:
            what: it, as in "cannot be {what}".

        Raises:
            UsageError: always.
        """
        raise UsageError(
            f"{self.folder} is an exported model and holds graphs only, so it cannot be {what}; "
            "use the model it was exported from"
        )


def _graph(folder: Path, name: Any) -> Path:
    """Return the path of a graph, which has to lie in the folder that names it.

    Raises:
        ModelError: it lies elsewhere.
    """
    given = Path(str(name))
    home, path = folder.resolve(), (folder / given).resolve()
    # The hub's cache keeps every file of a snapshot as a link into the repository's own blobs.
    blobs = home.parent.parent / "blobs" if home.parent.name == "snapshots" else home
    if given.is_absolute() or ".." in given.parts or not (path.is_relative_to(home) or path.is_relative_to(blobs)):
        raise ModelError(
            f"{folder / FILE_NAME}: {EXPORT} names the graph {str(name)!r}, which lies outside the folder; allowed: a "
            "path inside it: export the model again"
        )
    return folder / given


def read_exported(folder: Path, config: Any, content: Mapping[str, Any]) -> ExportedModel:
    """Read back an exported folder.

    Args:
        folder: the folder.
        config: its transformers configuration, or anything with the fields that its family reads.
        content: its `elbert.json`.

    Raises:
        ModelError: the description is incomplete, or a graph is missing.
    """
    export = content[EXPORT]
    try:
        model = ExportedModel(config, content["heads"], folder, export)
    except (KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{folder / FILE_NAME}: {EXPORT} is incomplete ({error}): export the model again") from None
    graphs = model.graphs
    if {len(graphs.steps), len(graphs.heads)} != {config.num_hidden_layers}:
        raise ModelError(
            f"{folder / FILE_NAME}: {EXPORT} names {len(graphs.steps)} steps and {len(graphs.heads)} heads, "
            f"config.json asks for {config.num_hidden_layers} of each: export the model again"
        )
    for path in (graphs.embed, *graphs.steps, *graphs.heads):
        if isinstance(path, Path) and not path.is_file():
            raise ModelError(f"{path} is missing: export the model again")
    return model
