"""The shape of every tensor in a family's checkpoint, from its names and configuration alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from elbert.modeling.families.base import Family, Shape


def shapes_of(family: Family, config: Any) -> dict[str, Shape]:
    """Return the shape of every tensor that a checkpoint of the family holds, by name.

    Args:
        family: whose names.
        config: a transformers configuration, or anything with the family's fields.
    """
    hidden, width = config.hidden_size, family.embedding_size(config)
    prefix, projection = family.prefix, family.projection_name(config)
    tables = {
        family.word: config.vocab_size,
        family.position: family.position_rows(config),
        family.token_type: family.type_rows(config),
    }
    shapes: dict[str, Shape] = {
        f"{prefix}.{table}.weight": (rows, width) for table, rows in tables.items() if table and rows
    }

    def add(name: str, shape: Shape, biased: bool) -> None:
        shapes[f"{name}.weight"] = shape
        if biased:
            shapes[f"{name}.bias"] = shape[:1]

    normed = family.biased(config, "norm")
    add(f"{prefix}.{family.embedding_norm}", (hidden if family.projection_inside else width,), normed)
    if projection is not None:
        add(projection, (hidden, width), family.biased(config, "projection"))
    for step, names in enumerate(family.layer_names(config)):
        for name in names:
            _add_layer(family, config, name, step, add)
    if family.final_norm is not None:
        add(f"{prefix}.{family.final_norm}", (hidden,), normed)
    add(family.dense, (hidden, hidden), family.biased(config, "dense"))
    if family.head_norm is not None:
        add(family.head_norm, (hidden,), normed)
    add(family.out, (len(config.id2label), hidden), biased=True)
    return shapes | family.extra_shapes(config)


def _add_layer(family: Family, config: Any, name: str, step: int, add: Any) -> None:
    hidden, part = config.hidden_size, family.layer
    inner = family.feed_forward_size(config)
    attention, feed_forward = family.biased(config, "attention"), family.biased(config, "feed_forward")
    widened = inner * (2 if family.spec(config, step).gated else 1)
    for each in part.qkv:
        add(f"{name}.{each}", (3 * hidden // len(part.qkv), hidden), attention)
    add(f"{name}.{part.out}", (hidden, hidden), attention)
    for each in part.up:
        add(f"{name}.{each}", (widened // len(part.up), hidden), feed_forward)
    add(f"{name}.{part.down}", (hidden, inner), feed_forward)
    normed = family.biased(config, "norm")
    if family.attention_normed(step):
        add(f"{name}.{part.attention_norm}", (hidden,), normed)
    add(f"{name}.{part.output_norm}", (hidden,), normed)
