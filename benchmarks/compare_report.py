"""The page, the figures and the numbers of `compare.py`, from what was judged. Decides nothing but where ink goes."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from compare_judge import SIGNALS, Judged
from compare_report_rivals import Beside, in_a_row, static
from compare_tables import gain, plain, table
from elbert.evaluation.sweep import Sweep
from elbert.reports import sweep_plots
from elbert.reports.plots import layer_ticks, rendered, styled
from elbert.scoring.held_out import LAYER_SPEEDUPS, HeldOut, band
from elbert.scoring.pareto import area
from elbert.scoring.points import SpeedupPoint

PUBLISHED = Path(__file__).parent / "studies" / "published.toml"

# A corpus and a kind of training.
Key = tuple[str, str]

_HOW = """Every setting was chosen on one half of the texts and scored on the other, both ways, over twenty ways to
halve them; a constant depth likewise. *Area* is the mean score between layer 1 and full depth, *gain* what of it is
above a constant depth's. Bands hold 95 % of the resamples of texts{models}; **bold** is a gain whose band lies on one
side of 0. Policies that learn were fitted on texts of their own, unless the training taught them."""


def page(judged: Mapping[Key, Judged], about: Mapping[str, Any], rivals: Mapping[str, Beside]) -> str:
    """Return the report as Markdown.

    Args:
        judged: by corpus and kind of training.
        about: of the study: its name and start.
        rivals: static ones, and cascades of them, by corpus.
    """
    several = any(each.sweep.models > 1 for each in judged.values())
    lines = [f"# {about['study']}: {about['start']}", ""]
    lines += [_HOW.format(models=" and models" if several else "; one model each, so none over seeds"), ""]
    corpora = list(dict.fromkeys(corpus for corpus, _ in judged))
    for corpus in corpora:
        own = {scheme: each for (name, scheme), each in judged.items() if name == corpus}
        rows, cascades = rivals.get(corpus, ((), ()))
        lines += [*_corpus(corpus, own), *static(rows), *in_a_row(cascades), *_published(corpus)]
    lines += _over_corpora(judged)
    return "\n".join(lines)


def _corpus(corpus: str, own: Mapping[str, Judged]) -> list[str]:
    first = next(iter(own.values())).sweep
    lines = [f"## {corpus}: {first.metric}, {first.n:,} texts", "", "### Training", ""]
    layers = range(1, first.layers + 1)
    lines += table(("training", "seeds", "minutes", *map(str, layers)), [_training(*each) for each in own.items()])
    lines += ["Score of each layer's exit.", "", *_schemes(own)]
    for scheme, each in own.items():
        lines += [f"### {corpus}, `{scheme}`", "", *_policies(each), *_timed(each), *_variants(each), *_auroc(each)]
        lines += [f"![{corpus}, {scheme}](figures/{corpus}-{plain(scheme)}-curves.svg)", ""]
    return lines


def _training(scheme: str, judged: Judged) -> list[str]:
    minutes = np.mean([each["seconds"] for each in judged.trained]) / 60
    return [f"`{scheme}`", str(judged.sweep.models), f"{minutes:.1f}", *(f"{score:.3f}" for score in judged.by_layer)]


def _schemes(own: Mapping[str, Judged]) -> list[str]:
    """Return the areas of every kind of training beside the first one's, pairs of the same resamples."""
    names = [
        name for name in ("fixed", "elbert", "entropy") if all(name in each.held_out.lines for each in own.values())
    ]
    base, rows = next(iter(own.values())).held_out, []
    for scheme, each in own.items():
        cells = [f"`{scheme}`"]
        for name in names:
            value, drawn = each.held_out.area(name)
            other, other_drawn = base.area(name)
            same = each.held_out is base or drawn.shape != other_drawn.shape
            cells.append(f"{value:.3f}" + ("" if same else f", {gain(value - other, band(drawn - other_drawn))}"))
        rows.append(cells)
    head = ("area", *(f"`{name}`" for name in names))
    return [*table(head, rows), "Behind the comma what that is above the first row's.", ""]


def _policies(judged: Judged) -> list[str]:
    curves = sorted(judged.sweep.curves, key=lambda curve: curve.rank)
    speeds = [f"{point.layer_speedup:g}×" for point in curves[0].at_speedups]
    rows = []
    for curve in curves:
        low, high = curve.rank_band
        constant = curve.policy == "fixed"
        own = f"{curve.area_held_out:.3f}"
        own += "" if constant else f", {gain(curve.gain_held_out, curve.gain_held_out_band)}"
        scores = [_at(point, constant=constant) for point in curve.at_speedups]
        rows.append([f"`{curve.policy}`", f"{curve.rank:g} ({low:g}–{high:g})", own, *scores])
    lines = table(("policy", "rank", "area, gain", *speeds), rows)
    if judged.along:
        learnt = ", ".join(f"`{name}`" for name in judged.along)
        lines += [f"Learnt along with the model: {learnt}; others that learn were fitted afterwards.", ""]
    return lines


def _at(point: SpeedupPoint, *, constant: bool) -> str:
    return f"{point.score:.3f}" + ("" if constant else f", {gain(point.gain, point.gain_band)}")


def _timed(judged: Judged) -> list[str]:
    """Return what the settings that were run for real saved on the clock."""
    points = [
        (curve.policy, each) for curve in judged.sweep.curves for each in curve.points if each.speedup is not None
    ]
    rows = [
        [f"`{name}`", f"{each.speedup or 0:.2f}×", f"{each.layer_speedup:.2f}×", f"{each.score:.3f}"]
        for name, each in sorted(points, key=lambda pair: -(pair[1].speedup or 0))
    ]
    if not rows:
        return []
    head = ("score by the clock", *(f"{speed:g}×" for speed in LAYER_SPEEDUPS))
    clock = [
        [f"`{name}`", *("–" if score is None else f"{score:.3f}" for score in scores)]
        for name, scores in at_clock_speedups(judged.sweep).items()
    ]
    told = (
        "By lines between the settings run for real, in time; chosen on all texts. A dash: nothing that fast was run."
    )
    return [
        *table(("run for real", "on the clock", "layers", "score, all texts"), rows),
        *table(head, clock),
        told,
        "",
    ]


def at_clock_speedups(sweep: Sweep) -> dict[str, list[float | None]]:
    """Return what every policy scores at `LAYER_SPEEDUPS` times less measured time than full depth takes.

    A coin that picks one of two settings for each text takes a time between theirs, so scores lie on straight lines
    over time; behind the best setting a line is level. The fastest constant depth that was run, and full depth, belong
    to every policy. None where nothing that fast was run; empty where nothing was timed.
    """
    timed = {
        curve.policy: [(1 / each.speedup, each.score) for each in curve.points if each.speedup is not None]
        for curve in sweep.curves
    }
    if not any(timed.values()):
        return {}
    ends = [*sorted(timed.get("fixed", []))[:1], (1.0, sweep.full_depth.score)]
    found: dict[str, list[float | None]] = {}
    for name, points in timed.items():
        if points:
            times, scores = np.array(sorted({*points, *ends})).T
            line = np.maximum.accumulate(scores)
            found[name] = [
                float(np.interp(1 / speed, times, line)) if 1 / speed >= times[0] else None for speed in LAYER_SPEEDUPS
            ]
    return found


def _variants(judged: Judged) -> list[str]:
    held, rows = judged.variants, []
    for name in held.lines:
        if name == "fixed":
            continue
        points = [held.at_speedup(name, speedup) for speedup in (2, 3, 5)]
        value, drawn = held.area(name)
        constant, constant_drawn = held.area("fixed")
        own = f"{value:.3f}, {gain(value - constant, band(drawn - constant_drawn))}"
        rows.append([name, own, *(_at(point, constant=False) for point in points)])
    return table(("ELBERT's parts, BEEM's readings", "area, gain", "2×", "3×", "5×"), rows) if rows else []


def _auroc(judged: Judged) -> list[str]:
    if not judged.auroc:
        return []
    rows = [
        [f"`{name}`: {SIGNALS[name][0].replace('_', ' ')}", *("–" if v is None else f"{v:.3f}" for v in values)]
        for name, values in judged.auroc.items()
    ]
    layers = range(1, judged.sweep.layers + 1)
    return table(("AUROC of “this exit is right”", *map(str, layers)), rows)


def _over_corpora(judged: Mapping[Key, Judged]) -> list[str]:
    """Return the mean rank of every policy over all corpora and kinds of training, with its band."""
    ranks = [each.held_out.ranks() for each in judged.values()]
    common = [name for name in ranks[0] if all(name in each for each in ranks)]
    rows = []
    for name in common:
        drawn = np.mean([each[name][1] for each in ranks], axis=0)
        low, high = band(drawn)
        outside = [_outside(each.held_out, name) for each in judged.values()]
        wins, losses = outside.count(1), outside.count(-1)
        mean = float(np.mean([each[name][0] for each in ranks]))
        rows.append((mean, [f"`{name}`", f"{mean:.2f} ({low:.2f}–{high:.2f})", str(wins), str(losses)]))
    head = ("policy", "mean rank", "above a constant depth at 2× or 3×, outside the band", "below, likewise")
    lines = ["## Over everything above", "", *table(head, [cells for _, cells in sorted(rows)])]
    return [*lines, f"Of {len(judged)} models’ curves; ranks are by area.", ""]


def _outside(held: HeldOut, name: str) -> int:
    """Return 1 where the gain's band at 2× or 3× lies above 0, else -1 where one lies below, else 0."""
    bands = [held.at_speedup(name, speedup).gain_band for speedup in (2, 3)]
    return 1 if any(low > 0 for low, _ in bands) else -1 if any(high < 0 for _, high in bands) else 0


def _published(corpus: str) -> list[str]:
    """Return what papers print about a corpus; not comparable row by row, so every row says its setting."""
    rows = [each for each in tomllib.loads(PUBLISHED.read_text(encoding="utf-8"))["row"] if each["corpus"] == corpus]
    if not rows:
        return []
    cells = [[each["system"], each["encoder"], each["result"], each["setting"], each["source"]] for each in rows]
    head = ("published", "encoder", "result", "setting", "source")
    return ["### What papers print", "", *table(head, cells)]


def draw(judged: Mapping[Key, Judged], folder: Path) -> None:
    """Draw curves, gains and AUROC of everything judged as SVG files."""
    folder.mkdir(exist_ok=True)
    for (corpus, scheme), each in judged.items():
        stem = f"{corpus}-{plain(scheme)}"
        (folder / f"{stem}-curves.svg").write_bytes(sweep_plots.score_by_layers(each.sweep, picture="svg"))
        (folder / f"{stem}-gains.svg").write_bytes(sweep_plots.gains(each.sweep, picture="svg"))
        if each.sweep.timing is not None:
            (folder / f"{stem}-clock.svg").write_bytes(sweep_plots.score_by_speedup(each.sweep, picture="svg"))
        if each.auroc:
            (folder / f"{stem}-auroc.svg").write_bytes(_auroc_figure(each))


def _auroc_figure(judged: Judged) -> bytes:
    with styled("auroc"):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6.4, 3.6), layout="constrained")
        axes = figure.subplots()
        layers = range(1, judged.sweep.layers + 1)
        for name, values in judged.auroc.items():
            axes.plot(layers, [np.nan if v is None else v for v in values], marker="o", ms=3, lw=1.2, label=name)
        axes.set_xticks(layer_ticks(judged.sweep.layers))
        axes.set_xlabel("exit layer")
        axes.set_ylabel("AUROC of “right”")
        axes.grid(axis="y", lw=0.6)
        axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
        return rendered(figure, "svg")


def numbers(judged: Mapping[Key, Judged]) -> dict[str, Any]:
    """Return everything reported, for programs; curves' own points are left out."""
    left_out = ("policy", "points", "depths", "scores", "low", "high")
    rows = []
    for (corpus, scheme), each in judged.items():
        sweep = each.sweep
        curves = {
            curve.policy: {name: value for name, value in curve.to_dict().items() if name not in left_out}
            for curve in sweep.curves
        }
        variants = {name: float(area(line, each.variants.at)) for name, line in each.variants.lines.items()}
        rows.append(
            {
                "corpus": corpus,
                "training": scheme,
                "metric": sweep.metric,
                "n": sweep.n,
                "layers": sweep.layers,
                "models": sweep.models,
                "by_layer": each.by_layer,
                "policies": curves,
                "at_clock_speedups": at_clock_speedups(sweep),
                "parts": variants,
                "auroc": each.auroc,
                "trained": each.trained,
            }
        )
    return {"rows": rows}


def write(
    judged: Mapping[Key, Judged], out: Path, about: Mapping[str, Any], rivals: Mapping[str, Beside]
) -> dict[str, Any]:
    """Write report.md, results.json and figures into a folder, and return the numbers."""
    rows = [{"corpus": corpus, **asdict(each)} for corpus, (static, _) in rivals.items() for each in static]
    lines = [{"corpus": corpus, **asdict(each)} for corpus, (_, cascades) in rivals.items() for each in cascades]
    found = {**numbers(judged), "rivals": rows, "cascades": lines}
    (out / "report.md").write_text(page(judged, about, rivals), encoding="utf-8")
    (out / "results.json").write_text(json.dumps({**about, **found}, allow_nan=False) + "\n", encoding="utf-8")
    draw(judged, out / "figures")
    return found
