"""Cascades of a study's rivals: whole models in a row, each trained by itself, beside the exits of one.

The first model that is sure of a text by `max_prob` answers it, and a text costs the layers of every model that it was
put to. Nothing is trained for it: what the rivals answered is replayed with models in the place of layers, as
`elbert.cascade` runs them. Thresholds are chosen, scored and resampled as the settings of policies are, so that a
cascade is a line beside theirs, from the layers of its first model on. Source: CascadeBERT (arXiv 2012.14682).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from compare_judge import Answers, Judged
from compare_rivals import CASCADE, RivalRun
from compare_standing import AGAINST, speedup
from elbert import Classifier
from elbert.cascade import Cascade
from elbert.data import Text
from elbert.evaluation.sweep import grids, sample, swept
from elbert.evaluation.sweep_time import spread
from elbert.exits import ExitPolicy
from elbert.results import LayerOutputs
from elbert.scoring.curves import Replays, replay_all
from elbert.scoring.held_out import LAYER_SPEEDUPS, band, crossed
from elbert.scoring.pareto import area
from elbert.scoring.points import TradeoffCurve
from elbert.scoring.refine import refined

Array = NDArray[Any]

RULE = "max_prob"

# Between two thresholds at most this share of the texts is passed on more: a twelfth of the whole model's layers.
_GAP = 1 / 12


@dataclass(frozen=True)
class Chain:
    """A cascade as a study names it.

    Attributes:
        name: the rival's; it may have several.
        members: runs of rivals as `Rival.run_names` has them, in the order they are asked.
    """

    name: str
    members: tuple[str, ...]

    @classmethod
    def read(cls, name: str, content: Mapping[str, Any], runs: Collection[str]) -> list[Chain]:
        """Read a study's cascades of one name; what is wrong there ends the program.

        Args:
            name: in the study.
            content: what stands there.
            runs: what the runs of its rivals are called.
        """
        chains = content.get("chains", [])
        if set(content) != {"kind", "chains"} or not chains:
            given = ", ".join(f"{key} = {value!r}" for key, value in content.items())
            raise SystemExit(
                f"compare.py: rival {name!r} has {given}; allowed: kind = {CASCADE!r}, chains = lists of runs"
            )
        for chain in chains:
            if len(set(chain)) < max(len(chain), 2) or not set(chain) <= set(runs):
                raise SystemExit(
                    f"compare.py: rival {name!r} has the chain {chain}; allowed: two or more that differ of "
                    f"{', '.join(runs)}"
                )
        return [cls(name, tuple(chain)) for chain in chains]


@dataclass(frozen=True)
class Line:
    """What a cascade reaches beside the policies of one kind of training.

    Attributes:
        members: of the chain.
        layers: of each, the mean over the seeds; with fewer than the first has no text is answered.
        models: seeds.
        scheme: the kind of training it is held against.
        minutes: of training, all members together, the mean over the seeds.
        scores: by `area`, which is the mean score between the first model's layers and full depth, and by how many
            times fewer layers than full depth, as far as that leaves it its first model.
        policies: likewise of every policy: its own there, what the cascade's is above it and that difference's band, of
            pairs of the same resamples.
        timed: settings that were run for real: threshold, layers, score of all texts, and speedup over the whole model
            with exits at full depth.
    """

    members: tuple[str, ...]
    layers: tuple[float, ...]
    models: int
    scheme: str
    minutes: float
    scores: dict[str, float]
    policies: dict[str, dict[str, tuple[float, float, tuple[float, float]]]]
    timed: tuple[dict[str, float], ...] = ()


def line(
    chain: Chain,
    runs: Mapping[str, Sequence[tuple[RivalRun, Path]]],
    said: Mapping[str, Sequence[Answers]],
    scheme: str,
    judged: Judged,
    bootstrap: int,
) -> tuple[Line, TradeoffCurve]:
    """Hold a cascade against policies; its settings come along, to be timed.

    Args:
        chain: it.
        runs: of its members at least, by name, with their folders, in the order of the seeds.
        said: what their models answered, likewise.
        scheme: the kind of training it is held against.
        judged: that, over as many seeds.
        bootstrap: resamples, as many as were judged with.
    """
    held, seeds = judged.held_out, list(zip(*(said[name] for name in chain.members), strict=True))
    taken = list(zip(*(runs[name] for name in chain.members), strict=True))
    costs = [
        [run.cost(folder, own)[0] for (run, folder), own in zip(*each, strict=True)]
        for each in zip(taken, seeds, strict=True)
    ]
    rows = [_in_a_row(members) for members in seeds]
    _, models, classes = rows[0].probs.shape
    first = refined(grids([RULE], models, classes), rows[0], _GAP)
    replayed = [first, *(replay_all(first.policies, row) for row in rows[1:])]
    replays = [_counted(each, own) for each, own in zip(replayed, costs, strict=True)]
    metric, labels = judged.sweep.metric, seeds[0][0].test_labels
    drawn = sample(replays, labels, metric=metric, bootstrap=bootstrap)
    places = list(dict.fromkeys([*drawn.groups()[RULE], *drawn.ends]))
    own, own_drawn = crossed(places, drawn.halves, held.at).mean(0), crossed(places, drawn.drawn_halves, held.at)
    layers = tuple(np.mean(costs, axis=0).tolist())
    scores, policies = {}, {name: {} for name in AGAINST if name in held.lines}
    for way, of in _ways(held.at, layers[0]).items():
        scores[way], values = float(of(own[None])[0]), of(own_drawn)
        for name, found in policies.items():
            theirs = float(of(held.lines[name][None])[0])
            found[way] = (theirs, scores[way] - theirs, band(values - of(held.drawn[name])))
    minutes = float(np.mean([sum(each.trained["seconds"] for each in members) for members in seeds])) / 60
    found = Line(chain.members, layers, len(seeds), scheme, minutes, scores, policies)
    return found, swept(drawn, metric=metric).curve(RULE)


def _in_a_row(members: Sequence[Answers]) -> LayerOutputs:
    """Return what the last exits said of the texts to report on, with models in the place of layers."""
    said = [each.test for each in members]
    logits, probs = (torch.stack([getattr(each, part)[:, -1] for each in said], 1) for part in ("logits", "probs"))
    return LayerOutputs(logits, probs, said[0].lengths, problem_type=said[0].problem_type)


def _counted(replays: Replays, costs: Sequence[float]) -> Replays:
    """Return replays that count the layers of every model that was asked, from the first a policy looks at."""
    through = np.cumsum([0.0, *costs])
    begins = through[[policy.earliest(len(costs)) - 1 for policy in replays.policies]]
    return replace(replays, ran=(through[replays.exit_layer] - begins[:, None]).astype(np.float32))


def _ways(at: Array, first: float) -> dict[str, Callable[[Array], Array]]:
    """Return how curves [n, D] over depths [D] are told, [n] each, where the first model runs so many layers."""
    able = at >= first
    depths = {f"{speed:g}": at[-1] / speed for speed in LAYER_SPEEDUPS if at[-1] / speed >= first}
    ways: dict[str, Callable[[Array], Array]] = {"area": lambda lines: area(lines[:, able], at[able])}
    return ways | {speed: partial(_heights, at=at, depth=depth) for speed, depth in depths.items()}


def _heights(lines: Array, at: Array, depth: float) -> Array:
    return np.array([np.interp(depth, at, each) for each in lines])


def timed_line(
    found: Line,
    curve: TradeoffCurve,
    whole: Classifier,
    members: Sequence[Classifier],
    texts: Sequence[Text],
    points: int,
) -> Line:
    """Return a line with some of its settings run for real, beside the whole model with exits at full depth.

    Args:
        found: the line.
        curve: its settings.
        whole: the model with exits.
        members: of the cascade, in their order.
        texts: all of them are timed.
        points: settings, spread evenly over the front.
    """
    for model in members:
        model.policy = model.exit_policy("full")
    together = Cascade(members)
    rows = [
        {
            "threshold": point.policy["threshold"],
            "layers": point.mean_exit_layer,
            "score": point.score,
            "speedup": speedup(whole, together, texts, ExitPolicy.from_dict(point.policy)),
        }
        for point in spread(curve, points)
    ]
    return replace(found, timed=tuple(rows))
