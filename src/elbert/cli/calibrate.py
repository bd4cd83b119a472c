"""`elbert calibrate`: choose how early texts may leave, with a guarantee. `elbert.calibration` does the choosing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elbert.cli import options
from elbert.cli.console import answer, check_folder, progress_bar, written_last
from elbert.errors import UsageError

if TYPE_CHECKING:
    from elbert.calibration import Calibration


def calibrate(
    model: options.Model,
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="Texts the model wasn't trained on: file, folder, hub:NAME.")
    ],
    split: options.SplitOfDev = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            help="What leaving early may cost, 0.01 is one point of accuracy.  [default: 0, 0.005, 0.01, 0.02]"
        ),
    ] = None,
    confidence: Annotated[float, typer.Option(help="Of each guarantee by itself.")] = 0.9,
    policy: Annotated[str, typer.Option(help="Family to search (see elbert policies).")] = "elbert",
    agreement: Annotated[
        bool, typer.Option("--agreement", help="Guarantee the answers of full depth instead; needs no labels.")
    ] = False,
    protect: options.Protected = None,
    per_class: options.PerClass = False,
    conditional: Annotated[
        bool,
        typer.Option("--conditional", help="Guarantee it also among the texts that leave at any one layer or before."),
    ] = False,
    abstain: Annotated[
        bool, typer.Option("--abstain", help="Keep 3 in 10 texts aside to test how sure an answer must be.")
    ] = False,
    tokens: options.Schedules = None,
    gates: options.TriedGates = None,
    words: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help="Fit layer 0 first, for a model that has none, on the labelled texts it was trained on.",
        ),
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="What scores are shown in: accuracy, f1_macro, matthews, …")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the policy.  [default: made from --max-drop]")] = None,
    default: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The policy to use where none is named, a new or a saved one, or full.  "
            "[default: the one guarantee, or drop-1]",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Write a copy of the model, leave MODEL as it is; a bundled or hub MODEL needs one."
        ),
    ] = None,
    allow_seen: options.AllowSeen = False,
    overwrite: options.Overwrite = False,
    batch_size: options.BatchSize = 32,
    loading: options.LoadFlags = options.LOADING,
    columns: options.ColumnFlags = options.COLUMNS,
    progress: options.Progress = False,
    json: options.JsonLine = False,
) -> None:
    """Find the fastest policy whose guarantee holds, and save it with the model: `predict` then uses it.

    A guarantee says: over all texts like these, leaving early costs less than --max-drop of accuracy against full
    depth, at the confidence given. Without --max-drop four are made: exact, drop-0.5, drop-1 and drop-2; drop-1 is
    used where no policy is named, unless --default names another. Where nothing passes, because the texts are too few
    or the exits too bad, full depth is saved under the name, and said so. A --policy that learns is fitted on three
    tenths of the texts first, and judged by the others. With --tokens the fastest policy is what runs the fewest
    token-layers, and may drop tokens; a model trained with skip gates may skip layers. What that loses is part of what
    the guarantee is about.

    Example:
        elbert calibrate runs/mine held-out.csv
        elbert calibrate mini-sentiment held-out.csv --out runs/mine
        elbert calibrate runs/mine held-out.csv --max-drop 0.005 --confidence 0.95 --name careful
        elbert calibrate runs/mine held-out.csv --default drop-0.5
        elbert calibrate runs/mine held-out.csv --protect fraud --protect spam
        elbert calibrate runs/mine held-out.csv --words train.csv
        elbert calibrate runs/mine texts.txt --agreement --max-drop 0.02
        elbert calibrate runs/mine held-out.csv --tokens auto
    """
    folder = _target(model, out, overwrite=overwrite)
    from elbert.calibration.promises import promises
    from elbert.exits import get

    promises(max_drop, name)
    get(policy)
    with written_last(folder):
        loaded = options.load_classifier(model, loading=loading, full_depth=True)
        dataset = columns.load_texts(data, split) if agreement else columns.load(data, split, loaded.labels)
        if words is not None:
            loaded.fit_words(columns.load(words, None, loaded.labels, usual="train"))
        asked: dict[str, Any] = {
            "max_drop": max_drop,
            "confidence": confidence,
            "policy": policy,
            "metric": metric,
            "name": name,
            "allow_seen": allow_seen,
            "protect": protect or (),
            "per_class": per_class,
            "conditional": conditional,
            "abstain": abstain,
            "tokens": options.token_schedules(tokens, loaded.num_layers),
            "gates": loaded.gates_for(policy, options.tried_gates(gates)),
        }
        with _bars(len(dataset) * (1 + len(asked["tokens"]) + len(asked["gates"])), forced=progress) as ticks:
            found = loaded.calibrate(dataset, **asked, default=default, batch_size=batch_size, **ticks)
        if policy == "budget":
            from elbert.evaluation.exit_times import time_budgets

            time_budgets(loaded, dataset.texts)
        loaded.save_policies(folder)
    _show(found, folder, loaded.metadata.default_policy, as_json=json)


def _target(model: str, out: Path | None, *, overwrite: bool) -> Path:
    """Return the folder whose `elbert.json` is to be written, checked before any work is done.

    Raises:
        UsageError: it isn't the user's own, can't be written, or something lies at `out`.
    """
    from elbert.modeling.files.sources import find_folder

    if out is None:
        folder = Path(model).expanduser()
        if not folder.is_dir():
            find_folder(model)  # a name of nothing is no matter of where to write
            raise UsageError(
                f"{model!r} is a hub id or a bundled checkpoint, into which nothing is written; "
                "name a folder for a copy with --out"
            )
        if not os.access(folder, os.W_OK):
            raise UsageError(f"model folder {model!r} is not writable; name a folder for a copy with --out")
        return folder
    check_folder(out, "model folder", lambda folder: (folder / "config.json").is_file(), overwrite=overwrite)
    if Path(model).expanduser().is_dir() and out.resolve() == Path(model).expanduser().resolve():
        raise UsageError(f"output {str(out)!r} is the model itself; leave --out away to write into it")
    return out


@contextmanager
def _bars(texts: int, *, forced: bool) -> Iterator[dict[str, Any]]:
    """Give the callbacks of a bar over the texts, then of one over the policies."""
    with progress_bar(texts, "texts", forced=forced) as first, progress_bar(None, "policies", forced=forced) as second:
        yield {"on_texts": first.update, "on_policy": second.update}


def _show(found: dict[str, Calibration], folder: Path, default: str, *, as_json: bool) -> None:
    """Print a line for each guarantee, and for programs the JSON line alone on stdout."""
    from elbert.reports.summary import cost_words
    from elbert.reports.tables import table

    facts = next(iter(found.values())).evidence
    dropped = ("tokens", "token-layers") * ("schedules" in facts) + ("gates",) * ("gates" in facts)
    head = ("policy", "score", "full", "mean layer", "speedup", *dropped, "p-value", "guarantee")
    rows = [(name, *_cells(each)) for name, each in found.items()]
    line = f"{facts['metric']} of {facts['n']:,} texts ({facts['source']}); speedup counts layers; saved in {folder}"
    costs = [each.evidence["layer_0_cost"] for each in found.values() if "layer_0_cost" in each.evidence]
    if costs:
        line += f"\nwhere layer 0 is asked, {cost_words(costs[0])}"
    if "exit_milliseconds" in facts:
        first, last = (facts["exit_milliseconds"][place] for place in (0, -1))
        line += f"\na text takes {first:.3g} ms to layer 1 and {last:.3g} ms to the last, one at a time: "
        line += "--policy budget --set milliseconds=NUMBER answers in so many on average"
    told = f"default: {default} answers where no policy is named; --default NAME chooses another"
    document = {
        "model": str(folder),
        "default_policy": default,
        "calibration": {key: each.to_dict() for key, each in found.items()},
    }
    answer(table(rows, head, prose=True), line, told, document=document, as_json=as_json)


def _cells(found: Calibration) -> tuple[str, ...]:
    facts = found.evidence
    scores = (f"{facts[name]:.4f}" for name in ("score", "full_depth_score"))
    depth = (f"{facts['mean_exit_layer']:.2f}", f"{facts['layer_speedup']:.2f}x")
    tokens = (str(found.policy.tokens or "all"), f"{facts['token_layers']:.3f}") if "schedules" in facts else ()
    gates = (str(found.policy.gates or "none"),) if "gates" in facts else ()
    return (*scores, *depth, *tokens, *gates, f"{facts['p_value']:.2g}", facts["note"])
