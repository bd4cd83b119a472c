"""`elbert policies`: what decides when a text leaves, with parameters and papers. Prints; the rules live elsewhere."""

from __future__ import annotations

from typing import Annotated, Any

import typer


def policies(
    json: Annotated[bool, typer.Option("--json", help="Write one JSON document for programs.")] = False,
) -> None:
    """List the exit policies: name, rule, parameters with their defaults, and the paper of each.

    Example:
        elbert policies
        elbert policies --json | jq '.[].name'
    """
    from json import dumps

    from elbert.exits import registry

    entries = [_entry(registry.get(name)) for name in registry.names()]
    typer.echo(dumps(entries, ensure_ascii=False) if json else "\n\n".join(map(_text, entries)))


def _entry(policy: Any) -> dict[str, Any]:
    """Return what there is to know of one policy class; parameters without a description keep an empty one."""
    from dataclasses import MISSING, fields

    from elbert.exits.parameters import specs

    described = specs(policy)
    return {
        "name": policy.name,
        "summary": policy.summary,
        "citation": policy.citation,
        "parameters": [
            {
                "name": field.name,
                "default": None if field.default is MISSING else field.default,
                "allowed": described[field.name].allowed if field.name in described else "",
                "about": described[field.name].about if field.name in described else "",
            }
            for field in fields(policy)
        ],
    }


def _text(entry: dict[str, Any]) -> str:
    """Return one entry for people."""
    lines = [entry["name"], f"  {entry['summary']}"]
    for parameter in entry["parameters"]:
        default = "none" if parameter["default"] is None else parameter["default"]
        lines.append(f"  {parameter['name']} = {default}: {parameter['about']} ({parameter['allowed']})")
    return "\n".join([*lines, f"  {entry['citation']}"])
