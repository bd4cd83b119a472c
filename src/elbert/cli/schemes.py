"""`elbert schemes`: how the losses of the layers are weighed in training. Prints; the formulas live elsewhere."""

from __future__ import annotations

from typing import Annotated, Any

import typer


def schemes(
    json: Annotated[bool, typer.Option("--json", help="Write one JSON document for programs.")] = False,
) -> None:
    """List the training schemes: name, what it does, options with their defaults, and the paper of each.

    Example:
        elbert schemes
        elbert train train.csv --out runs/mine --scheme elbert_balanced -o pull=2
    """
    from json import dumps

    from elbert.training import schemes as registry

    entries = [_entry(registry.get(name)) for name in registry.names()]
    typer.echo(dumps(entries, ensure_ascii=False) if json else "\n\n".join(map(_text, entries)))


def _entry(scheme: Any) -> dict[str, Any]:
    """Return what there is to know of one scheme class."""
    from inspect import Parameter, signature

    parameters = signature(scheme).parameters.values()
    options = {each.name: each.default for each in parameters if each.kind is Parameter.KEYWORD_ONLY}
    return {"name": scheme.name, "summary": scheme.summary, "citation": scheme.citation, "options": options}


def _text(entry: dict[str, Any]) -> str:
    """Return one entry for people."""
    options = [f"  {name} = {default:g}" for name, default in entry["options"].items()]
    return "\n".join([entry["name"], f"  {entry['summary']}", *options, f"  {entry['citation']}"])
