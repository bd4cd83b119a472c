"""Flags that several verbs share, each described once, and the classifier they ask for."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from elbert.cli.console import warnings_last
from elbert.errors import UsageError

if TYPE_CHECKING:
    from elbert.classifier import Classifier

Model = Annotated[str, typer.Argument(metavar="MODEL", help="A model folder, a hub id, or a bundled checkpoint.")]
Policy = Annotated[
    str | None,
    typer.Option(
        help="An exit policy by name (see elbert policies), or one saved with the model.  [default: the model's]"
    ),
]
Threshold = Annotated[float | None, typer.Option(help="Of the policy: how sure is sure enough.")]
Window = Annotated[int | None, typer.Option(help="Of the policy: layers looked back on; 0 switches it off.")]
Criterion = Annotated[str | None, typer.Option(help="Of the policy: monotone, range or agreement.")]
Tolerance = Annotated[float | None, typer.Option(help="Of the policy: the change that counts as none.")]
Patience = Annotated[int | None, typer.Option(help="Of the policy: equal answers running before a text leaves.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Of the policy: any other parameter; repeatable."),
]
BatchSize = Annotated[int, typer.Option(min=1, help="Texts in flight together; changes the speed, never the answer.")]
Backend = Annotated[str, typer.Option(help="What computes: auto, torch, openvino or onnxruntime.")]
Device = Annotated[str, typer.Option(help="Where: auto, cpu, cuda, cuda:1, …")]
Dtype = Annotated[str, typer.Option(help="In which precision: auto, float32, bfloat16, int8, float16.")]
ProblemType = Annotated[
    str | None,
    typer.Option(
        help="single_label_classification, multi_label_classification or regression, where the model doesn't say which."
    ),
]
TextColumn = Annotated[str | None, typer.Option(help="Column of the text, where it is not found by name.")]
TextPairColumn = Annotated[str | None, typer.Option(help="Column of the second text of a pair.")]
LabelColumn = Annotated[str | None, typer.Option(help="Column of the label, where it is not found by name.")]
InputFormat = Annotated[
    str | None,
    typer.Option(help="Where a name does not say it: csv, tsv, tsv-quoted (pandas', R's), jsonl, parquet or txt."),
]
SkipBrokenRows = Annotated[
    bool, typer.Option("--skip-broken-rows", help="Leave out, and count, rows that cannot be read.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an output that exists.")]
Progress = Annotated[
    bool, typer.Option("--progress", help="Show a progress bar on stderr even where it is no terminal.")
]
JsonLine = Annotated[bool, typer.Option("--json", help="Write one JSON line on stdout; the table goes to stderr.")]


@dataclass(frozen=True)
class TextFlags:
    """How texts are read from a source; a bundle of flags, which `unbundle` sets beside a verb's own."""

    text_column: TextColumn = None
    text_pair_column: TextPairColumn = None
    input_format: InputFormat = None
    skip_broken_rows: SkipBrokenRows = False

    def to_dict(self) -> dict[str, Any]:
        """Return the arguments of `load_data` that say the same."""
        return asdict(self)


@dataclass(frozen=True)
class ColumnFlags(TextFlags):
    """How texts and their labels are read from a source."""

    label_column: LabelColumn = None

    def texts(self) -> dict[str, Any]:
        """Return the arguments of `load_texts`."""
        return {name: value for name, value in self.to_dict().items() if name != "label_column"}


TEXTS, COLUMNS = TextFlags(), ColumnFlags()  # what stands in a signature where no flag was given


def unbundle(verb: Callable[..., None]) -> Callable[..., None]:
    """Return a verb whose signature has, instead of each bundle of flags, the flags in it.

    Args:
        verb: a function; its parameters of a dataclass's type are bundles.
    """
    hints = get_type_hints(verb, include_extras=True)
    bundles: dict[str, Any] = {name: kind for name, kind in hints.items() if is_dataclass(kind)}
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(verb).parameters.values():
        if parameter.name not in bundles:
            parameters.append(parameter.replace(annotation=hints[parameter.name]))
            continue
        kind = bundles[parameter.name]
        types = get_type_hints(kind, include_extras=True)
        parameters += [
            inspect.Parameter(flag.name, parameter.kind, default=flag.default, annotation=types[flag.name])
            for flag in fields(kind)
        ]

    def call(**given: Any) -> None:
        packed = {
            name: kind(**{flag.name: given.pop(flag.name) for flag in fields(kind)}) for name, kind in bundles.items()
        }
        verb(**given, **packed)

    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return call


def load_classifier(
    model: str,
    *,
    policy: str | None = None,
    settings: list[str] | None = None,
    backend: str,
    device: str,
    dtype: str,
    problem_type: str | None = None,
    full_depth: bool = False,
    **parameters: Any,
) -> Classifier:
    """Load the model with the exit policy the flags ask for.

    Args:
        model: as on the command line.
        policy: its name; None takes the model's own.
        settings: further parameters as `name=value`.
        backend: of the engine, as are `device` and `dtype`.
        device: where to compute.
        dtype: in which precision.
        problem_type: how to read the logits, where the model does not say, or wrongly.
        full_depth: run every layer, instead of any policy.
        parameters: of the policy, by flag; None means not given.

    Raises:
        UsageError: an unknown model, policy or parameter, a value out of range, a parameter given twice, or full depth
            beside a policy.
    """
    overrides = {name: value for name, value in parameters.items() if value is not None}
    further = parse_settings(settings or [])
    if twice := sorted(overrides.keys() & further.keys()):
        raise UsageError(f"{twice[0]} was given twice, by --{twice[0]} and by --set {twice[0]}=…; give one of them")
    overrides |= further
    if full_depth and (policy or overrides):
        raise UsageError("--full-depth runs every layer, so it takes no --policy and none of a policy's parameters")
    from elbert.classifier import Classifier
    from elbert.exits import ExitPolicy, make

    chosen = make("full") if full_depth else policy  # the rule itself: a model may have saved another under its name
    with warnings_last():
        classifier = Classifier.from_pretrained(
            model, backend=backend, device=device, dtype=dtype, policy=chosen, problem_type=problem_type
        )
        if overrides:
            # A parameter names a rule; full depth, where a model has none of its own, has no parameters.
            base = classifier.policy if policy or classifier.policy != make("full") else make("elbert")
            classifier.policy = ExitPolicy.from_dict({**base.to_dict(), **overrides})
    return classifier


def parse_settings(settings: list[str]) -> dict[str, Any]:
    """Read `name=value` words; a value is JSON where it can be (`0.5`, `false`, `[1, 2]`), else a word.

    Raises:
        UsageError: a word without `=` or without a name, or a name twice.
    """
    parsed: dict[str, Any] = {}
    for setting in settings:
        name, mark, value = setting.partition("=")
        if not mark or not name:
            raise UsageError(f"--set {setting!r} is not NAME=VALUE, for example --set normalized=false")
        if name in parsed:
            raise UsageError(f"--set {name}=… was given twice; give it once")
        try:
            parsed[name] = json.loads(value)
        except ValueError:
            parsed[name] = value
    return parsed
