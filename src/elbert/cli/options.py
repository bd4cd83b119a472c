"""Flags that several verbs share, each described once, and the classifier they ask for."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from elbert.cli.console import warnings_last
from elbert.errors import UsageError

if TYPE_CHECKING:
    from elbert.cascade import Cascade
    from elbert.classifier import Classifier
    from elbert.data import Labels, TextDataset
    from elbert.exits.tokens import TokenSchedule

_Loaded = TypeVar("_Loaded", "Classifier", "Cascade")

Model = Annotated[str, typer.Argument(metavar="MODEL", help="A model folder, a hub id, or a bundled checkpoint.")]
Data = Annotated[str, typer.Argument(metavar="DATA", help="A file, a GLUE-style folder, or hub:NAME.")]
SplitOfDev = Annotated[str | None, typer.Option(help="Which part, where DATA has several.  [default: dev]")]
SplitOfTest = Annotated[str | None, typer.Option(help="Which part, where DATA has several.  [default: test]")]
Metric = Annotated[str | None, typer.Option(help="accuracy, f1_binary, f1_macro, matthews, pearson, …")]
AllowSeen = Annotated[
    bool, typer.Option("--allow-seen", help="Only warn where a model was trained on some of these texts.")
]
BatchSize = Annotated[int, typer.Option(min=1, help="Texts in flight together; changes the speed, never the answer.")]
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
    typer.Option(
        help="Where a name does not say it: csv, tsv, tsv-quoted (pandas', R's), jsonl, parquet, txt or fasttext."
    ),
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
    """How texts are read from a source; a bundle of flags, which `flags.unbundle` sets beside a verb's own."""

    text_column: TextColumn = None
    text_pair_column: TextPairColumn = None
    input_format: InputFormat = None
    skip_broken_rows: SkipBrokenRows = False

    def load_texts(self, data: str, split: str | None, *, usual: str = "dev") -> TextDataset:
        """Read the texts of a source, of its part `split`, or `usual`; see `elbert.data.load_texts`."""
        from elbert.data import load_texts
        from elbert.data.readers import choose_split

        split = choose_split(data, split, usual)
        told = {name: value for name, value in asdict(self).items() if name != "label_column"}
        return load_texts(data, split=split, **told)


@dataclass(frozen=True)
class ColumnFlags(TextFlags):
    """How texts and their labels are read from a source."""

    label_column: LabelColumn = None

    def load(
        self, data: str, split: str | None, labels: Labels | None = None, *, usual: str = "dev", **more: Any
    ) -> TextDataset:
        """Read texts and labels, encoded as a model's; see `load_texts`. `elbert.data.load_data` takes `more` too."""
        from elbert.data import load_data
        from elbert.data.readers import choose_split

        return load_data(data, split=choose_split(data, split, usual), labels=labels, **asdict(self), **more)


@dataclass(frozen=True)
class PolicyFlags:
    """Which exit policy, and what of it is overruled; None means not given."""

    policy: Annotated[
        str | None,
        typer.Option(
            help="An exit policy by name (see elbert policies), or one saved with the model.  [default: the model's]"
        ),
    ] = None
    threshold: Annotated[float | None, typer.Option(help="Of the policy: how sure is sure enough.")] = None
    window: Annotated[int | None, typer.Option(help="Of the policy: layers looked back on; 0 switches it off.")] = None
    criterion: Annotated[str | None, typer.Option(help="Of the policy: monotone, range or agreement.")] = None
    tolerance: Annotated[float | None, typer.Option(help="Of the policy: the change that counts as none.")] = None
    patience: Annotated[int | None, typer.Option(help="Of the policy: equal answers running before a text leaves.")] = (
        None
    )
    tokens: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LAYER=KEPT",
            help="Tokens a text keeps behind a layer, a share (3=0.5) or a count (3=64), those with most attention; "
            "repeatable.",
        ),
    ] = None
    gates: Annotated[
        float | None,
        typer.Option(help="Skip a layer when its trained gate says so with at least this, such as 0.5."),
    ] = None
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Of the policy: any other parameter; repeatable."),
    ] = None

    def overrides(self) -> dict[str, Any]:
        """Return the parameters given, by name.

        Raises:
            UsageError: one was given twice, or a --set is not NAME=VALUE.
        """
        flags = ("threshold", "window", "criterion", "tolerance", "patience", "gates")
        named = {name: getattr(self, name) for name in flags if getattr(self, name) is not None}
        if self.tokens:
            named["tokens"] = parse_settings(self.tokens, "--tokens", "3=0.5")
        further = parse_settings(self.settings or [])
        if twice := sorted(named.keys() & further.keys()):
            raise UsageError(f"{twice[0]} was given twice, by --{twice[0]} and by --set {twice[0]}=…; give one of them")
        return named | further


Protected = Annotated[
    list[str] | None,
    typer.Option("--protect", metavar="LABEL", help="A class whose recall may not lose --max-drop either; repeatable."),
]
PerClass = Annotated[bool, typer.Option("--per-class", help="Protect every class so.")]

Schedules = Annotated[
    list[str] | None,
    typer.Option(
        "--tokens",
        metavar="auto|LAYER=KEPT",
        help="Try dropping tokens too, each schedule with every policy: auto for three that fit the depth, or one of "
        "your own, such as 3=0.5; repeatable. Every schedule takes a run of its own over the texts.",
    ),
]


TriedGates = Annotated[
    list[str] | None,
    typer.Option(
        "--gates",
        metavar="auto|none|NUMBER",
        help="Try skipping layers too, where the model has gates for it: auto as they were trained, none, or at a "
        "threshold of your own, such as 0.4; repeatable. Every one takes a run of its own over the texts.  "
        "[default: auto]",
    ),
]


def tried_gates(words: list[str] | None) -> list[float] | str | None:
    """Return what `--gates` asks to be tried, as `Classifier.calibrate` takes it.

    Raises:
        UsageError: a word is no number, or auto or none stands beside others.
    """
    from elbert.exits.gates import AUTO

    if not words or words == [AUTO]:
        return AUTO
    if words == ["none"]:
        return None
    try:
        return [float(word) for word in words]
    except ValueError:
        raise UsageError(
            f"--gates is {' '.join(words)}; allowed: numbers from 0 to 1, or {AUTO} or none alone"
        ) from None


def token_schedules(words: list[str] | None, num_layers: int) -> tuple[TokenSchedule, ...]:
    """Return the schedules that `--tokens` asks for, none where it was not given, and say on stderr what they take.

    Raises:
        UsageError: auto beside others, a word that is not LAYER=KEPT, or a layer that the model has not.
    """
    from elbert.exits.tokens import AUTO, asked_schedules

    if not words:
        return ()
    named = AUTO if words == [AUTO] else parse_settings(words, "--tokens", f"3=0.5, or {AUTO} alone")
    schedules = asked_schedules(named, num_layers)
    runs = f"{len(schedules) + 1} runs over the texts: with all tokens, and with {', with '.join(map(str, schedules))}"
    typer.echo(runs, err=True)
    return schedules


@dataclass(frozen=True)
class LoadFlags:
    """How a model is loaded: what computes, and how its logits are read."""

    backend: Annotated[str, typer.Option(help="What computes: auto, torch, openvino or onnxruntime.")] = "auto"
    device: Annotated[str, typer.Option(help="Where: auto, cpu, cuda, cuda:1, …")] = "auto"
    dtype: Annotated[str, typer.Option(help="In which precision: auto, float32, bfloat16, int8, float16.")] = "auto"
    problem_type: ProblemType = None


# What stands in a signature where no flag was given.
POLICY, LOADING, TEXTS, COLUMNS = PolicyFlags(), LoadFlags(), TextFlags(), ColumnFlags()


def load_classifier(
    model: str, policy: PolicyFlags | None = None, loading: LoadFlags = LOADING, *, full_depth: bool = False
) -> Classifier:
    """Load the model with the exit policy the flags ask for.

    Args:
        model: as on the command line.
        policy: its flags; None takes the model's own.
        loading: what computes, and how logits are read.
        full_depth: run every layer, instead of any policy.

    Raises:
        UsageError: an unknown model, policy or parameter, a value out of range, a parameter given twice, or full depth
            beside a policy.
    """
    from elbert.classifier import Classifier

    return _load(Classifier, "elbert", model, policy, loading, full_depth=full_depth)


def load_any(model: str, policy: PolicyFlags, loading: LoadFlags, *, full_depth: bool = False) -> Classifier | Cascade:
    """Load a model or a cascade of several; arguments as in `load_classifier`, and so what it raises."""
    from elbert.modeling.files.sources import is_cascade

    if not is_cascade(model):
        return load_classifier(model, policy, loading, full_depth=full_depth)
    from elbert.cascade import Cascade

    return _load(Cascade, "max_prob", model, policy, loading, full_depth=full_depth)


def _load(
    kind: type[_Loaded], usual: str, model: str, policy: PolicyFlags | None, loading: LoadFlags, *, full_depth: bool
) -> _Loaded:
    named, overrides = (None, {}) if policy is None else (policy.policy, policy.overrides())
    if full_depth and (named or overrides):
        raise UsageError("--full-depth runs every layer, so it takes no --policy and none of a policy's parameters")
    from elbert.exits import ExitPolicy, make, names

    chosen: ExitPolicy | str | dict[str, Any] | None = named
    if full_depth:
        chosen = make("full")  # the rule itself: a model may have saved another under its name
    elif named in names() and overrides:
        chosen, overrides = {"name": named, **overrides}, {}  # at once: its defaults may not be for this model
    with warnings_last():
        loaded = kind.from_pretrained(model, **asdict(loading), policy=chosen)
        if overrides:
            # A parameter names a rule, `usual` where the model has none of its own: full depth has but these to set.
            kept = named is not None or loaded.policy != make("full") or overrides.keys() <= {"tokens", "gates"}
            base = loaded.policy if kept else make(usual)
            loaded.policy = loaded.exit_policy(ExitPolicy.from_dict({**base.to_dict(), **overrides}))
    return loaded


def parse_settings(words: list[str], flag: str = "--set", example: str = "normalized=false") -> dict[str, Any]:
    """Read NAME=VALUE words; a value is JSON or a number where it can be (`0.5`, `false`, `[1, 2]`), else a word.

    Args:
        words: as they were given; a dash in a name is an underscore.
        flag: that took them, for messages.
        example: of such a word, likewise.

    Raises:
        UsageError: a word without `=` or without a name, or a name twice.
    """
    parsed: dict[str, Any] = {}
    for word in words:
        name, mark, value = word.partition("=")
        name = name.replace("-", "_")
        if not mark or not name:
            raise UsageError(f"{flag} {word!r} is not NAME=VALUE, for example {flag} {example}")
        if name in parsed:
            raise UsageError(f"{flag} {name}=… was given twice; give it once")
        parsed[name] = _value(value)
    return parsed


def _value(word: str) -> Any:
    for read in (json.loads, float):
        try:
            return read(word)
        except ValueError:
            continue
    return word
