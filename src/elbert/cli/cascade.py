"""`elbert cascade`: whole models in a row, with a guarantee. `elbert.cascade` does the work."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elbert.cli import options
from elbert.cli.console import answer, check_folder, progress_bar, warnings_last, written_last
from elbert.errors import UsageError

if TYPE_CHECKING:
    from elbert.calibration import Calibration
    from elbert.cascade import Cascade


def cascade(
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODEL MODEL…", help="Two or more of the same classes, the cheapest first."),
    ],
    data: Annotated[
        str, typer.Option(metavar="DATA", help="Labelled texts no model was trained on: file, folder, hub:NAME.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder to be, with copies of the models.")],
    split: options.SplitOfDev = None,
    max_drop: Annotated[
        float, typer.Option(help="What the cascade may lose against the last model; 0.01 is one point of accuracy.")
    ] = 0.01,
    confidence: Annotated[float, typer.Option(help="Of the guarantee.")] = 0.9,
    policy: Annotated[
        str, typer.Option(help="How a model is sure: max_prob, energy, entropy, or patience (two say the same).")
    ] = "max_prob",
    protect: options.Protected = None,
    per_class: options.PerClass = False,
    metric: Annotated[str | None, typer.Option(help="What scores are shown in: accuracy, f1_macro, …")] = None,
    allow_seen: options.AllowSeen = False,
    overwrite: options.Overwrite = False,
    batch_size: options.BatchSize = 32,
    loading: options.LoadFlags = options.LOADING,
    columns: options.ColumnFlags = options.COLUMNS,
    progress: options.Progress = False,
    json: options.JsonLine = False,
) -> None:
    """Put whole models in a row, find how sure each must be to answer for all, and save them as one folder.

    Models may be of this library or of another, with tokenizers and exits of their own. The guarantee says: over all
    texts like these the cascade loses less than --max-drop of accuracy against its last model, as that answers by
    itself. Where nothing passes the last model answers every text, and so it is said. In the folder, models are counted
    as layers; predict counts the layers of all models that ran.

    Example:
        elbert cascade runs/small runs/big --data held-out.csv --out runs/both
        elbert cascade runs/small runs/big --data held-out.csv --out runs/both --policy energy --max-drop 0.005
        elbert cascade runs/small runs/big --data held-out.csv --out runs/both --protect fraud
        elbert predict runs/both "What a film!"
    """
    _check_target(out, models, overwrite=overwrite)
    from elbert.cascade import Cascade

    with written_last(out):
        with warnings_last():
            chain = Cascade.of(models, **asdict(loading))
        dataset = columns.load(data, split, chain.labels)
        asked: dict[str, Any] = {"policy": policy, "metric": metric, "allow_seen": allow_seen, "batch_size": batch_size}
        asked |= {"protect": protect or (), "per_class": per_class}
        with progress_bar(len(models) * len(dataset), "texts", forced=progress) as bar:
            found = chain.calibrate(dataset, max_drop, confidence, **asked, on_texts=bar.update)
        chain.save_pretrained(out)
    _show(chain, found, models, out, as_json=json)


def _check_target(out: Path, models: list[str], *, overwrite: bool) -> None:
    """Refuse an output before any work is done for it.

    Raises:
        UsageError: something lies there that may not be replaced, or it is one of the models.
    """
    from elbert.modeling.files.sources import is_cascade

    if any(Path(model).expanduser().resolve() == out.resolve() for model in models):
        raise UsageError(f"output {str(out)!r} is one of the models; give another name")
    check_folder(out, "cascade", is_cascade, overwrite=overwrite)


def _show(chain: Cascade, found: Calibration, models: list[str], out: Path, *, as_json: bool) -> None:
    """Print a line for each model and the cascade's own, and for programs the JSON line alone on stdout."""
    from elbert.reports.tables import table

    facts = found.evidence
    answered = facts["exit_histogram"]
    rows = [
        (f"{place}", str(model.num_layers), f"{answered[place - 1] / facts['n']:.3f}", name)
        for place, (model, name) in enumerate(zip(chain.models, models, strict=True), start=1)
    ]
    told = f"{facts['metric']} of {facts['n']:,} texts ({facts['source']}): {facts['score']:.4f}"
    told += f", the last model alone {facts['full_depth_score']:.4f}; {facts['mean_exit_layer']:.2f} models a text"
    parts = (table(rows, ("model", "layers", "answers", "name"), prose=True), told, facts["note"], f"saved in {out}")
    answer(*parts, document={"cascade": str(out), "models": models, **found.to_dict()}, as_json=as_json)
