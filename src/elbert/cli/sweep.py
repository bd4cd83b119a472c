"""`elbert sweep`: what every exit policy offers on one data set. The numbers are made in `elbert.evaluation`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elbert.cli import options
from elbert.cli.console import answer, check_folder, facts, progress_bar, show, written_last
from elbert.errors import UsageError
from elbert.seeds import check_seed

if TYPE_CHECKING:
    from elbert.classifier import Classifier
    from elbert.data import TextDataset
    from elbert.evaluation.sweep import Sweep
    from elbert.exits import ExitPolicy
    from elbert.results import LayerOutputs
    from elbert.scoring.curves import Replays
    from elbert.scoring.points import TradeoffCurve

# Texts recorded at once; what is kept of them is a few bytes per layer and setting.
_RECORDED_AT_ONCE = 2048

_POLICIES_HELP = (
    "all for every one, or names with commas between (see elbert policies); beside other names all is the combinator."
)
_ALSO_HELP = "A further model of the same task, another seed for example: numbers are means, bands cover models too."


def sweep(
    model: options.Model,
    data: options.Data,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where table, numbers and pictures go.")],
    also: Annotated[list[str] | None, typer.Option("--also", metavar="MODEL", help=f"{_ALSO_HELP} Repeatable.")] = None,
    policies: Annotated[str, typer.Option(help=_POLICIES_HELP)] = "all",
    tokens: options.Schedules = None,
    gates: options.TriedGates = None,
    split: options.SplitOfDev = None,
    metric: options.Metric = None,
    bootstrap: Annotated[int, typer.Option(min=100, help="Resamples behind every band.")] = 1000,
    seed: Annotated[int, typer.Option(callback=check_seed, help="Of the resamples.")] = 0,
    timed: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", help="Settings per policy to run for real (2 N of fixed), on up to 1,000 texts."
        ),
    ] = 3,
    batch_size: options.BatchSize = 32,
    loading: options.LoadFlags = options.LOADING,
    columns: options.ColumnFlags = options.COLUMNS,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier sweep at DIR.")] = False,
    progress: options.Progress = False,
    json: options.JsonLine = False,
) -> None:
    """Record a model once at full depth, replay every exit policy at every setting, and draw what each offers.

    A constant depth is always among them: a policy that does not beat it is not worth its doubt. `area` is the mean
    score between layer 1 and full depth along the policy's Pareto front, `gain` what of it a constant depth lacks,
    both with bands over resampled texts. `held out` is the area with the settings chosen on one half of the texts and
    scored on the other. Where the model has a layer 0 every policy has a second curve, `entropy+words` for example,
    over its settings with that at several thresholds, its measured cost counted; `fixed+words` is layer 0 before a
    constant depth. With --tokens there are curves with schedules of tokens too, such as `entropy+tokens`; there each
    layer counts by the share of a text's tokens that it ran. Where the model was trained with skip gates,
    `entropy+gates` and its like skip layers, and count those that were run.

    Example:
        elbert sweep runs/mine test.csv --out runs/sweep
        elbert sweep runs/seed0 data/sst2 --also runs/seed1 --also runs/seed2 --out runs/sweep --timed 0
        elbert sweep runs/mine test.csv --out runs/sweep --policies elbert,entropy --json | jq .areas
        elbert sweep runs/mine test.csv --out runs/sweep --policies elbert --tokens auto
    """
    from elbert.reports.plots import check_installed
    from elbert.reports.sweep_files import NUMBERS

    check_folder(out, "sweep", lambda folder: (folder / NUMBERS).is_file(), overwrite=overwrite)
    check_installed()
    chosen = _names(policies)
    with written_last(out):
        first, dataset, replays = _record(
            [model, *(also or [])],
            data,
            split,
            chosen,
            (tokens, gates),
            metric,
            loading,
            columns,
            batch_size,
            progress=progress,
        )
        from elbert.evaluation.sweep import sample, swept
        from elbert.evaluation.sweep_time import with_times

        show(f"scoring: {len(replays[0].policies):,} settings, {bootstrap:,} resamples of the texts", err=True)
        scores = sample(replays, dataset.labels or [], metric=metric, bootstrap=bootstrap, seed=seed)
        result = swept(scores, metric=metric, seed=seed)
        if timed:
            show(f"timing: {timed} settings a policy, one after another", err=True)
        with progress_bar(None, "texts timed", forced=progress) as bar:
            result = with_times(result, first, dataset.texts, timed, batch_size=batch_size, on_text=bar.update)
        sources = {"models": [model, *(also or [])], "data": dataset.name}
        about = {"sources": sources, "dtype": first.dtype, "backend": first.backend}
        _write(result, out, about)
    _show(result, out, as_json=json)


def _names(policies: str) -> list[str] | None:
    """Return the policies asked for, each known; None for all."""
    from elbert.evaluation.sweep import check_names

    if policies == "all":
        return None
    names = [name.strip() for name in policies.split(",")]
    check_names(names)  # before any model is loaded
    return names


def _record(
    models: list[str],
    data: str,
    split: str | None,
    names: list[str] | None,
    left_out: tuple[list[str] | None, list[str] | None],
    metric: str | None,
    loading: options.LoadFlags,
    columns: options.ColumnFlags,
    batch_size: int,
    *,
    progress: bool,
) -> tuple[Classifier, TextDataset, list[Replays]]:
    """Load one model after another, record the texts and keep what a sweep needs; return the first model too."""
    from elbert.classifier import Classifier
    from elbert.evaluation.sweep import grids, with_shortcut, with_weights
    from elbert.exits.gates import Shortcut, SkipGates, shortcut_field
    from elbert.modeling.files.sources import find_folder
    from elbert.scoring.curves import joined, of_all_texts, replay_all
    from elbert.scoring.metrics import metric_name
    from elbert.scoring.refine import refined

    for name in models:
        find_folder(name)  # all of them, before the first is run
    first = Classifier.from_pretrained(models[0], **asdict(loading))
    metric_name(first.problem_type, metric)
    dataset = columns.load(data, split, first.labels)
    tokens, gates = left_out
    thresholds = (each.threshold for each in first.gates_for("full", options.tried_gates(gates)))
    # Without weights: every model has gates of its own.
    shortcuts: list[Shortcut] = [*options.token_schedules(tokens, first.num_layers), *map(SkipGates, thresholds)]
    replays: list[Replays] = []
    every: list[ExitPolicy] = []
    for name in models:
        classifier = first if name == models[0] else Classifier.from_pretrained(name, **asdict(loading))
        _check_alike(classifier, first)
        words = first.words is not None
        settings = grids(names, first.num_layers, first.labels.num_labels, classifier.fitted, words=words)
        names = names or list(dict.fromkeys(policy.name for policy in settings))  # of the first, for the others too
        cost = classifier.layer_0_cost(dataset.texts, batch_size=batch_size)
        told: dict[str, Any] = {
            "batch_size": batch_size,
            "pooled": any("pooled" in policy.needs for policy in settings),
        }
        show(f"recording: {len(dataset):,} texts through all layers of {name}", err=True)
        with progress_bar(len(dataset) * (1 + len(shortcuts)), "texts recorded", forced=progress) as bar:
            for each in shortcuts:
                classifier.record(dataset.texts[:1], **shortcut_field(each), **told)  # a model may refuse one: at once
            parts = _parts(classifier, dataset, bar, **told)
            if replays:  # the first model's settings, or there would be nothing to put beside one another
                every = with_weights(every, classifier.fitted)
                whole = replay_all(every, parts, cost)
            else:
                begin = refined(settings, next(parts), layer_0_cost=cost)
                every = list(begin.policies)
                whole = of_all_texts([begin, *(replay_all(every, part, cost) for part in parts)])
            shortened = [
                replay_all(
                    with_shortcut(every, each),
                    _parts(classifier, dataset, bar, **shortcut_field(each), **told),
                    cost,
                )
                for each in shortcuts
            ]
            replays.append(joined(whole, shortened))
    return first, dataset, replays


def _check_alike(classifier: Classifier, first: Classifier) -> None:
    """Raise UsageError where the two can't stand in one sweep."""
    if (classifier.labels, classifier.num_layers) != (first.labels, first.num_layers):
        raise UsageError(
            f"{classifier.name} and {first.name} differ in labels or layers; a sweep takes models of one task"
        )
    if (classifier.words is None) != (first.words is None):
        raise UsageError(
            f"only one of {classifier.name} and {first.name} has a layer 0; a sweep takes models with, or models "
            "without: elbert calibrate --words fits one"
        )


def _parts(classifier: Classifier, dataset: TextDataset, bar: Any, **told: Any) -> Iterator[LayerOutputs]:
    """Yield recordings of some texts at a time; `told` is what `record` takes besides."""
    for begin in range(0, len(dataset), _RECORDED_AT_ONCE):
        texts = dataset.texts[begin : begin + _RECORDED_AT_ONCE]
        yield classifier.record(texts, **told)
        bar.update(len(texts))


def _write(result: Sweep, out: Path, about: dict[str, Any]) -> None:
    from elbert import __version__
    from elbert.disk import ANOTHER_FOLDER, whole_folder, write_errors
    from elbert.reports.sweep_files import write_sweep

    with write_errors(f"the sweep {out}", ANOTHER_FOLDER), whole_folder(out.resolve()) as folder:
        write_sweep(result, folder, {"elbert": __version__, **about})


def _show(result: Sweep, out: Path, *, as_json: bool) -> None:
    """Print areas and the fastest good setting per policy; for programs one JSON line alone on stdout."""
    from elbert.reports.summary import cost_words
    from elbert.reports.sweep_plots import CHOSEN_DROP
    from elbert.reports.tables import table

    head = ("policy", "area", "band", "held out", "gain over fixed", "band", f"fastest within {CHOSEN_DROP:g}")
    rows = [_cells(result, curve, CHOSEN_DROP) for curve in result.curves]
    about = [
        ("texts, models", f"{result.n:,}, {result.models}"),
        (f"{result.metric}, full depth", f"{result.full_depth.score:.4f}"),
        ("settings, resamples", f"{len(result.points)}, {result.bootstrap:,}"),
        *([] if result.layer_0_cost is None else [("layer 0", cost_words(result.layer_0_cost))]),
        ("folder", str(out)),
    ]
    summary = _summary(result, out, CHOSEN_DROP)
    answer(table(rows, head, prose=True), "", facts(about), document=summary, as_json=as_json)


def _cells(result: Sweep, curve: TradeoffCurve, max_drop: float) -> tuple[str, ...]:
    from elbert.exits.wording import value_words

    (low, high), (least, most) = curve.area_band, curve.gain_band
    gain = (f"{curve.gain:+.3f}", f"{least:+.3f} … {most:+.3f}") if curve.policy != "fixed" else ("", "")
    numbers = (curve.policy, f"{curve.area:.3f}", f"{low:.3f}–{high:.3f}", f"{curve.area_held_out:.3f}", *gain)
    best = result.fastest(curve.policy, max_drop)
    if best is None:
        return (*numbers, "none")
    setting = " ".join(
        f"{key} {value_words(key, value)}" if isinstance(value, dict) else f"{key}={value_words(key, value)}"
        for key, value in best.policy.items()
        if key != "name" and value is not None
    )
    clock = f", {best.speedup:.2f}× on the clock" if best.speedup is not None else ""
    return (*numbers, f"{best.mean_exit_layer:.2f} layers{clock}: {setting}")


def _summary(result: Sweep, out: Path, max_drop: float) -> dict[str, Any]:
    """Return the JSON line: everything but the curves' own points, which are in the folder."""
    keys = ("n", "metric", "layers", "models", "bootstrap", "confidence", "seed", "timing", "layer_0_cost")
    left_out = ("policy", "points", "depths", "scores", "low", "high")
    fastest = {curve.policy: result.fastest(curve.policy, max_drop) for curve in result.curves}
    return {
        **{key: getattr(result, key) for key in keys},
        "full_depth_score": result.full_depth.score,
        "areas": {
            curve.policy: {name: value for name, value in curve.to_dict().items() if name not in left_out}
            for curve in result.curves
        },
        "max_drop": max_drop,
        "fastest": {name: None if point is None else point.to_dict() for name, point in fastest.items()},
        "out": str(out),
    }
