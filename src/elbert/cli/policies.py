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
    from dataclasses import fields
    from json import dumps

    from elbert.exits import ExitPolicy, registry

    entries = [_entry(registry.get(name)) for name in registry.names()]
    common = "\n".join(["every policy", *(_line(_parameter(field)) for field in fields(ExitPolicy))])
    typer.echo(dumps(entries, ensure_ascii=False) if json else "\n\n".join([*map(_text, entries), common]))


def _entry(policy: Any) -> dict[str, Any]:
    """Return what there is to know of one policy class, its own parameters included."""
    from elbert.exits.common import own_fields

    about = {"name": policy.name, "summary": policy.summary, "citation": policy.citation}
    return {**about, "parameters": [_parameter(field) for field in own_fields(policy)]}


def _parameter(field: Any) -> dict[str, Any]:
    """Return what there is to know of one parameter; one without a description keeps an empty one."""
    from dataclasses import MISSING

    from elbert.exits.parameters import SPEC

    spec = field.metadata.get(SPEC)
    return {
        "name": field.name,
        "default": None if field.default is MISSING else _plain(field.default),
        "allowed": spec.allowed if spec else "",
        "about": spec.about if spec else "",
    }


def _plain(value: Any) -> Any:
    """Return a default as JSON has it: rules as their objects."""
    return [each.to_dict() for each in value] if isinstance(value, tuple) else value


def _line(parameter: dict[str, Any]) -> str:
    default = "none" if parameter["default"] is None else parameter["default"]
    return f"  {parameter['name']} = {default}: {parameter['about']} ({parameter['allowed']})"


def _text(entry: dict[str, Any]) -> str:
    """Return one entry for people."""
    lines = [entry["name"], f"  {entry['summary']}", *map(_line, entry["parameters"]), f"  {entry['citation']}"]
    return "\n".join(lines)
