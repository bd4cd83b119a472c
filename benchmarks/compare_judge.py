"""What `compare.py` makes of recorded answers: replays, held-out curves, ranks, and how well signals rank.

Reads recordings, runs no model, writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from elbert.calibration.confidence import auroc
from elbert.evaluation.sweep import Sweep, grids, sample, swept, with_weights
from elbert.exits import ExitPolicy, get, make, names
from elbert.exits.beem import Beem
from elbert.exits.elbert import Elbert
from elbert.exits.fitting import wrongness
from elbert.exits.replay import recorded
from elbert.results import ExitOutput, LayerOutputs
from elbert.scoring.curves import replay_all, scores_by_layer
from elbert.scoring.held_out import HeldOut
from elbert.scoring.refine import refined

# The criteria of ELBERT's second stage that its own grid leaves out.
_CRITERIA = ("range", "agreement")

# What a rule of each policy measures at an exit, and whether more of it means surer.
SIGNALS = {
    "max_prob": ("confidence", True),
    "entropy": ("normalised_entropy", False),
    "energy": ("energy", True),
    "beem": ("summed_confidence", True),
    "patience": ("streak", True),
    "saturation": ("cosine", True),
    "cap": ("chance_of_none", False),
    "certainty": ("estimated_error", False),
    "q_exit": ("chance_to_have_left", True),
    "halting": ("safe_by", True),
    "right_tool": ("confidence_of_the_mix", True),
    "past_future": ("entropy_of_the_guess", False),
    "consistent": ("says_leave", True),
    "prototype": ("uncertainty", False),
}


@dataclass(frozen=True)
class Answers:
    """A run's recorded answers.

    Attributes:
        kept: on the texts kept aside, to fit policies on.
        kept_labels: the right ones of these.
        test: on the texts to report on.
        test_labels: the right ones of those.
        trained: what `elbert.json` says of the training.
        along: weights of the policies that were learnt along with the model, by name.
    """

    kept: LayerOutputs
    kept_labels: Any
    test: LayerOutputs
    test_labels: Any
    trained: dict[str, Any]
    along: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Judged:
    """One kind of training on one corpus.

    Attributes:
        sweep: what every policy offers; with `held_out` values for what is reported.
        held_out: the curves of every policy.
        variants: those of ELBERT's parts and of BEEM's two readings.
        by_layer: [M] the score of every exit, meaned over seeds.
        auroc: by signal, [M] how well it ranks an exit's right answers before its wrong ones, meaned over seeds.
        trained: what was said of each training.
        fitted: policies that learn, by name, as the first seed's model has them.
        along: names of those that were learnt along with the model; the others were fitted afterwards.
    """

    sweep: Sweep
    held_out: HeldOut
    variants: HeldOut
    by_layer: list[float]
    auroc: dict[str, list[float | None]]
    trained: list[dict[str, Any]]
    fitted: Mapping[str, ExitPolicy]
    along: tuple[str, ...]


def judge(seeds: Sequence[Answers], metric: str | None, only: Sequence[str] | None, bootstrap: int) -> Judged:
    """Replay every policy over one recording per seed; where layers were skipped, every policy that learns nothing.

    Args:
        seeds: at least one.
        metric: what scores are; None for the problem's own.
        only: policies by name; None takes all.
        bootstrap: resamples behind every band.
    """
    if seeds[0].test.gates is not None:
        only = [name for name in only or names() if not get(name).learned]
    fitted = [fitted_policies(answers, only) for answers in seeds]
    first = refined(_settings(seeds[0].test, fitted[0], only), seeds[0].test)
    others = zip(seeds[1:], fitted[1:], strict=True)
    replays = [first, *(replay_all(with_weights(first.policies, own), answers.test) for answers, own in others)]
    labels = seeds[0].test_labels
    drawn = sample(replays, labels, metric=metric, bootstrap=bootstrap)
    settings = replays[0].policies
    groups = {"fixed": drawn.groups()["fixed"], **_parts_of_elbert(settings), **_readings_of_beem(settings)}
    curves = [signal_auroc(answers, own, only or names()) for answers, own in zip(seeds, fitted, strict=True)]
    layers = [scores_by_layer(answers.test, answers.test_labels, metric) for answers in seeds]
    return Judged(
        sweep=swept(drawn, metric=metric),
        held_out=drawn.held_out(),
        variants=drawn.held_out(groups),
        by_layer=np.mean(layers, axis=0).tolist(),
        auroc={name: _mean([each[name] for each in curves]) for name in curves[0]},
        trained=[answers.trained for answers in seeds],
        fitted=fitted[0],
        along=tuple(name for name in fitted[0] if name in seeds[0].along),
    )


def fitted_policies(answers: Answers, only: Sequence[str] | None) -> dict[str, ExitPolicy]:
    """Return the policies that learn, with their weights: learnt along with the model, else fitted on what is kept.

    Args:
        answers: of one seed.
        only: policies by name; None takes all.
    """
    learned, along = [name for name in only or names() if get(name).learned], answers.along
    return {
        name: make(name).with_tensors(along[name])
        if name in along
        else make(name).fit(answers.kept, answers.kept_labels)
        for name in learned
    }


def _settings(outputs: LayerOutputs, fitted: Mapping[str, ExitPolicy], only: Sequence[str] | None) -> list[ExitPolicy]:
    """Return every setting of every policy, ELBERT's with every criterion, BEEM's in both readings."""
    _, layers, classes = outputs.probs.shape
    every = grids(only, layers, classes, fitted)
    windows = [each for each in every if isinstance(each, Elbert) and each.window is not None]
    beem = _beem_by_code(layers) if any(isinstance(each, Beem) for each in every) else []
    settings = [*(replace(each, criterion=name) for name in _CRITERIA for each in windows), *beem, *every]
    return settings if outputs.gates is None else [replace(each, gates=outputs.gates) for each in settings]


def _parts_of_elbert(policies: Sequence[ExitPolicy]) -> dict[str, list[int]]:
    """Return the places of ELBERT's settings by criterion and by window; both have those without a window."""
    own = {place: policy for place, policy in enumerate(policies) if isinstance(policy, Elbert)}
    first = [place for place, policy in own.items() if policy.window is None]
    parts = {"stage 1 alone": first} if first else {}
    for criterion in sorted({policy.criterion for policy in own.values()}):
        these = [place for place, each in own.items() if each.window is not None and each.criterion == criterion]
        parts[f"both stages, {criterion}"] = [*these, *first]
    for window in sorted({policy.window for policy in own.values() if policy.window is not None}):
        parts[f"both stages, N = {window}"] = [
            place for place, each in own.items() if each.window == window and each.criterion == "monotone"
        ]
    return {name: places for name, places in parts.items() if places}


def _beem_by_code(layers: int) -> list[ExitPolicy]:
    """Return BEEM as its authors' code has it, at sums that two to M − 1 sure exits reach, in halves."""
    ends = [half / 2 for half in range(3, 2 * layers - 1)]
    return [make("beem", reading="code", threshold=0.95 * Beem().growth * end * (end - 1) / 2) for end in ends]


def _readings_of_beem(policies: Sequence[ExitPolicy]) -> dict[str, list[int]]:
    """Return the places of BEEM's settings by reading."""
    own = {place: policy for place, policy in enumerate(policies) if isinstance(policy, Beem)}
    words = {"paper": "BEEM, the paper's sum", "code": "BEEM, the code's sum"}
    groups = {told: [place for place, each in own.items() if each.reading == name] for name, told in words.items()}
    return {told: places for told, places in groups.items() if places}


def signal_auroc(
    answers: Answers, fitted: Mapping[str, ExitPolicy], wanted: Sequence[str]
) -> dict[str, list[float | None]]:
    """Return how well each policy's signal ranks right answers before wrong ones, [M]; 0.5 is chance.

    None where an exit is right, or wrong, about every text. Empty for values, which are never just right.
    """
    if answers.test.problem_type == "regression":
        return {}
    said = recorded(answers.test, None, make("full", gates=answers.test.gates))
    wrong = wrongness(said, np.asarray(answers.test_labels)) > 0
    known = [name for name in SIGNALS if name in wanted]
    ready = {name: fitted.get(name, make(name, gates=answers.test.gates)) for name in known}
    return {name: _auroc(ready[name], *SIGNALS[name], answers.test, wrong) for name in known}


def _auroc(policy: ExitPolicy, measure: str, rises: bool, outputs: LayerOutputs, wrong: Any) -> list[float | None]:
    said = recorded(outputs, None, policy)
    texts, layers, classes = said.probs.shape
    state, found = policy.start(texts, classes), []
    for exit in range(layers):
        pooled = None if said.pooled is None else said.pooled[:, exit]
        here = ExitOutput(said.probs[:, exit], said.logits[:, exit], pooled, said.problem_type)
        measured, state = policy.decide(state, here, np.full(texts, exit + 1))
        signal = np.nan_to_num(np.asarray(measured[measure], np.float64), nan=-np.inf)
        found.append(auroc(-signal if rises else signal, wrong[:, exit]))
    return found


def _mean(curves: Sequence[Sequence[float | None]]) -> list[float | None]:
    """Return the mean over seeds; None where one of them has none."""
    return [
        None if any(value is None for value in values) else float(np.mean([v for v in values if v is not None]))
        for values in zip(*curves, strict=True)
    ]
