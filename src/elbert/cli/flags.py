"""Bundles of flags: a verb takes a dataclass, and its help page has a flag for each of the fields."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, Any, get_type_hints

import typer

# What a docstring says of None, the setting that leaves the choice to the program: its default.
_OF_NONE = re.compile(r"[;.] None (?:takes|for) (.+?)\.?(?= [A-Z]|$)")


@dataclass(frozen=True, slots=True)
class FlagsOf:
    """Marks a verb's parameter that takes, as a dict, those settings that were given as flags.

    A flag has its name, type and default from the field, and its help from the docstring of the settings.

    Attributes:
        settings: a dataclass with a section `Attributes:`.
        names: of the fields that are flags.
        environment: whether a variable of the field's name in capitals may say the same.
    """

    settings: type[Any]
    names: tuple[str, ...]
    environment: bool = False

    def parameters(self, kind: Any) -> list[inspect.Parameter]:
        """Return the flags, each None unless it is given."""
        types = get_type_hints(self.settings)
        defaults = {field.name: field.default for field in fields(self.settings)}
        told = described(self.settings)
        made = []
        for name in self.names:
            option = typer.Option(
                help=_help(told[name], defaults[name]), envvar=name.upper() if self.environment else None
            )
            made.append(inspect.Parameter(name, kind, default=None, annotation=Annotated[types[name] | None, option]))
        return made

    def packed(self, given: dict[str, Any]) -> dict[str, Any]:
        """Take the flags out of all that was given, and return those that were not left to their defaults."""
        taken = {name: given.pop(name) for name in self.names}
        return {name: value for name, value in taken.items() if value is not None}


@dataclass(frozen=True, slots=True)
class _Bundle:
    """A dataclass whose fields are flags, each with its `typer.Option` in the annotation."""

    kind: Any

    def parameters(self, kind: Any) -> list[inspect.Parameter]:
        types = get_type_hints(self.kind, include_extras=True)
        return [
            inspect.Parameter(flag.name, kind, default=flag.default, annotation=types[flag.name])
            for flag in fields(self.kind)
        ]

    def packed(self, given: dict[str, Any]) -> Any:
        return self.kind(**{flag.name: given.pop(flag.name) for flag in fields(self.kind)})


def unbundle(verb: Callable[..., None]) -> Callable[..., None]:
    """Return a verb whose signature has, instead of each bundle of flags, the flags in it.

    Args:
        verb: a function; its parameters of a dataclass's type, and those marked with `FlagsOf`, are bundles.
    """
    hints = get_type_hints(verb, include_extras=True)
    bundles = {name: bundle for name, hint in hints.items() if (bundle := _bundle_of(hint)) is not None}
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(verb).parameters.values():
        if parameter.name in bundles:
            parameters += bundles[parameter.name].parameters(parameter.kind)
        else:
            parameters.append(parameter.replace(annotation=hints[parameter.name]))

    def call(**given: Any) -> None:
        packed = {name: bundle.packed(given) for name, bundle in bundles.items()}
        verb(**given, **packed)

    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return call


def described(kind: type[Any]) -> dict[str, str]:
    """Return what the docstring of a class says of each of its attributes, in one line each."""
    section = (inspect.getdoc(kind) or "").partition("Attributes:\n")[2]
    entries = re.findall(r"^    (\w+): (.+(?:\n {8,}.+)*)", section, re.MULTILINE)
    return {name: " ".join(words.split()) for name, words in entries}


def _bundle_of(hint: Any) -> FlagsOf | _Bundle | None:
    marks = [mark for mark in getattr(hint, "__metadata__", ()) if isinstance(mark, FlagsOf)]
    return marks[0] if marks else _Bundle(hint) if is_dataclass(hint) else None


def _help(words: str, default: Any) -> str:
    """Return a docstring's entry as a help page has it: a sentence that begins with a capital, its default behind."""
    of_none = _OF_NONE.search(words)
    usual = of_none[1] if of_none else str(default).lower() if isinstance(default, bool) else default
    sentence = _OF_NONE.sub(".", words)
    end = "" if sentence.endswith((".", "…")) else "."
    told = f"{sentence[:1].upper()}{sentence[1:]}{end}" + ("" if usual is None else f"  [default: {usual}]")
    return told.replace("`", "")
