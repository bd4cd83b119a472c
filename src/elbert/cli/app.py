"""Which verbs there are, and the group that imports a verb's module only when it is called.

A verb is a module with a function of the verb's name; its parameters are the flags and its docstring, down to `Args:`,
is the help page. To add one: copy the nearest file, change it, and add a line to `VERBS`. No verb does its work here.
"""

from __future__ import annotations

import importlib
import inspect
import os
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from elbert import __version__
from elbert.cli.flags import unbundle
from elbert.errors import UsageError, did_you_mean

# Help pages are as wide as the terminal up to this many columns.
CONTEXT = {"max_content_width": 110, "help_option_names": ["--help", "-h"]}

# Docstring sections that are for readers of the code.
_CODE_SECTIONS = ("Args:", "Returns:", "Raises:", "Yields:")

# What may be the empty string: a text, the set of no labels, and the column that a CSV file leaves without a name.
_MAY_BE_EMPTY = {"texts", "text", "text_pair", "label", "text_column", "text_pair_column", "label_column"}


# What flags that are no words take.
_KINDS: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true or false"}


@dataclass(frozen=True, slots=True)
class Verb:
    """One line of `elbert --help`.

    Attributes:
        module: where the function of the verb's name lives.
        summary: what it does, in one line.
        panel: the heading it stands under.
    """

    module: str
    summary: str
    panel: str


VERBS: dict[str, Verb] = {
    "demo": Verb("elbert.cli.demo", "The whole story on packaged data: train, evaluate, report.", "Start here"),
    "train": Verb("elbert.cli.train", "Fine-tune a model so that every layer can answer.", "Make a model"),
    "pretrain": Verb("elbert.cli.pretrain", "Pretrain a small ALBERT from plain text.", "Make a model"),
    "calibrate": Verb("elbert.cli.calibrate", "Choose how early texts may leave, with a guarantee.", "Make a model"),
    "cascade": Verb("elbert.cli.cascade", "Put whole models in a row; the first that is sure answers.", "Make a model"),
    "predict": Verb("elbert.cli.predict", "Classify texts, one JSON object a line.", "Use a model"),
    "evaluate": Verb("elbert.cli.evaluate", "Score a model on labelled data, timed against full depth.", "Use a model"),
    "serve": Verb("elbert.cli.serve", "Serve models over HTTP.", "Use a model"),
    "export": Verb("elbert.cli.export", "Write a model as graphs for onnxruntime or OpenVINO.", "Use a model"),
    "explain": Verb(
        "elbert.cli.explain", "Show on a page why a text, or a data set, leaves where it does.", "Use a model"
    ),
    "sweep": Verb("elbert.cli.sweep", "Compare every exit policy at every setting.", "Use a model"),
    "bench": Verb("elbert.cli.bench", "Race a model against other ways of running it.", "Use a model"),
    "check": Verb("elbert.cli.check", "Tell whether texts still look like the calibration's.", "Use a model"),
    "policies": Verb("elbert.cli.policies", "List the exit policies, with the paper of each.", "Look up"),
    "schemes": Verb("elbert.cli.schemes", "List the training schemes, with the paper of each.", "Look up"),
}


class VerbCommand(TyperCommand):
    """A verb that takes no empty name or path: the one would be taken for none, the other for the current folder."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words behind the verb.

        Raises:
            UsageError: one of them is empty where a name or a path is wanted, or no value of its flag; or a variable
                that stands for a flag is empty.
        """
        given, *_ = self.make_parser(ctx).parse_args(args=list(args))  # still words: as a path, "" would be "."
        for parameter in self.params:
            value = given.get(parameter.name)
            words = value if isinstance(value, (list, tuple)) else [value]
            if "" in words and parameter.name not in _MAY_BE_EMPTY:
                what = parameter.metavar if parameter.param_type_name == "argument" else parameter.opts[0]
                raise UsageError(f"{what} is empty (a shell variable that is not set?); give it a value")
        try:
            rest = super().parse_args(ctx, args)
        except typer.BadParameter as error:
            told = _wrong_value(error.param, given, ctx)
            if told is None:
                raise
            raise UsageError(f"{told}; see '{ctx.command_path} --help'") from None
        _check_variables(self.params, ctx)
        return rest


def _check_variables(parameters: list[Any], ctx: Any) -> None:
    """Raise where a variable that is to be read is empty: it would be taken for none, and a key for an open server."""
    for parameter in parameters:
        variable = parameter.envvar
        if variable is None or ctx.get_parameter_source(parameter.name).name == "COMMANDLINE":
            continue
        if variable in os.environ and not os.environ[variable].strip():
            raise UsageError(f"the variable {variable} is set and empty; give it a value, or unset it")


def _wrong_value(parameter: Any, given: dict[str, Any], ctx: Any) -> str | None:
    """Return what was given to a flag that wants a number or a truth value, and what is allowed; None of any other."""
    kind = None if parameter is None else _KINDS.get(parameter.type_descriptor.annotation)
    if kind is None:
        return None
    low, high = parameter.min, parameter.max
    limits = "" if low is None else f" of {low} or more" if high is None else f" from {low} to {high}"
    name, value = parameter.opts[0], given.get(parameter.name)
    if value is None:
        name, value = f"{name} (by the variable {parameter.envvar})", parameter.value_from_envvar(ctx)
    return f"{name} is {value!r}; allowed: {kind}{limits}"


class LazyGroup(TyperGroup):
    """A group that knows its verbs from the table and imports none of them until one is called."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        """Return the verbs in the table's order."""
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        """Import the verb's module and build its command; None where there is no such verb."""
        verb = VERBS.get(cmd_name)
        return None if verb is None else build_command(cmd_name, verb)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the verb named first in `args`.

        Raises:
            UsageError: there is no such verb; the message names the closest.
        """
        if args and args[0] not in VERBS:
            raise UsageError(f"there is no verb {args[0]!r}{did_you_mean(args[0], VERBS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        """Write the verbs under their headings, from the table alone."""
        for panel in dict.fromkeys(verb.panel for verb in VERBS.values()):
            rows = [(name, verb.summary) for name, verb in VERBS.items() if verb.panel == panel]
            with formatter.section(panel):
                formatter.write_dl(rows)


def build_command(name: str, verb: Verb) -> Any:
    """Return the command of one verb, its help page taken from its function's docstring."""
    function = getattr(importlib.import_module(verb.module), name)
    app = typer.Typer(add_completion=False, rich_markup_mode=None, context_settings=CONTEXT)
    app.command(name, cls=VerbCommand, help=help_page(function))(unbundle(function))
    return typer.main.get_command(app)


def help_page(function: Any) -> str:
    """Return a docstring as help text: sections for readers of the code cut off, indented examples kept as written."""
    paragraphs = inspect.cleandoc(function.__doc__ or "").split("\n\n")
    kept: list[str] = []
    for paragraph in paragraphs:
        if paragraph.lstrip().startswith(_CODE_SECTIONS):
            break
        # "\b" tells the formatter to leave the lines of this paragraph alone.
        literal = any(line.startswith(" ") for line in paragraph.splitlines())
        kept.append(f"\b\n{paragraph}" if literal else paragraph)
    return "\n\n".join(kept)


def command() -> Any:
    """Return the whole command line, ready to be run."""
    app = typer.Typer(
        cls=LazyGroup,
        name="elbert",
        add_completion=False,
        rich_markup_mode=None,
        context_settings=CONTEXT,
        subcommand_metavar="VERB …",
    )
    app.callback(help=help_page(_root))(_root)
    return typer.main.get_command(app)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"elbert {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Text classification that stops thinking as soon as it is sure.

    Every verb has its own page, with an example: elbert VERB --help. Exit status: 0 done, 1 failed, 2 the request
    was wrong.

    Example:
        elbert demo
        elbert train train.csv --out runs/mine
        elbert predict runs/mine "What a film!"
    """
