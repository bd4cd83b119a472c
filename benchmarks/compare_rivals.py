"""Static rivals of a study: models that run the same fewer layers for every text, beside exits at equal layers.

`first` keeps the first k layers of the start and fine-tunes them; `distilled` does that with a teacher, the model that
another kind of training became on the same texts; `layer_drop` trains all M layers with some left out at random, and
keeps every other one of what comes of it (LayerDrop, Fan et al., ICLR 2020). The first two are trained for M / k times
as many epochs, so that each has cost as many layer passes as the model with exits; a teacher's own come on top.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compare_judge import Answers, Judged
from elbert import TrainSettings, train
from elbert.disk import whole_folder
from elbert.errors import ElbertError
from elbert.evaluation.sweep import grids, sample
from elbert.modeling.files.load import load_model
from elbert.scoring.curves import replay_all
from elbert.scoring.held_out import band
from elbert.training import start_model
from first_layers import cut, keep_layers

if TYPE_CHECKING:
    from compare import Run

# What a model is called until it is cut.
WHOLE = "whole"

KINDS = ("first", "distilled", "layer_drop")

# Policies that a rival is held against, as far as they were replayed.
AGAINST = ("fixed", "elbert", "entropy", "max_prob")


@dataclass(frozen=True)
class Rival:
    """A static rival as a study names it.

    Attributes:
        name: its own.
        kind: one of `KINDS`.
        layers: how many are kept, a model for each; `layer_drop` keeps every other one, so it has no choice.
        teacher: of `distilled`: the kind of training whose model teaches.
        settings: of training, where they differ from the study's.
    """

    name: str
    kind: str
    layers: tuple[int, ...] = ()
    teacher: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, name: str, content: Mapping[str, Any], schemes: Iterable[str]) -> Rival:
        """Read a rival from its part of a study file; what is wrong there ends the program."""
        found = cls(name, **{**content, "layers": tuple(content.get("layers", ()))})
        if found.kind not in KINDS:
            raise SystemExit(f"compare.py: rival {name!r} is of kind {found.kind!r}; allowed: {', '.join(KINDS)}")
        if bool(found.layers) == (found.kind == "layer_drop"):
            wanted = "none, for every other one is kept" if found.layers else "a list of numbers"
            raise SystemExit(f"compare.py: rival {name!r} has layers {list(found.layers)}; allowed: {wanted}")
        if (found.teacher in schemes) != (found.kind == "distilled"):
            wanted = f"one of {', '.join(schemes)}" if found.kind == "distilled" else "none"
            raise SystemExit(f"compare.py: rival {name!r} has the teacher {found.teacher!r}; allowed: {wanted}")
        return found


@dataclass(frozen=True)
class RivalRun:
    """One training of a rival.

    Attributes:
        run: whose corpus, seed and settings it has.
        rival: which one.
        layers: it keeps; 0 for every other one.
    """

    run: Run
    rival: Rival
    layers: int

    @property
    def name(self) -> str:
        """The folder's name."""
        kept = f"-{self.layers}" if self.layers else ""
        return f"{self.run.ground.name}-{self.rival.name}{kept}-{self.run.seed}"

    def settings(self, depth: int) -> TrainSettings:
        """Return the settings of this training, where the start has so many layers."""
        scheme = "layer_drop" if self.rival.kind == "layer_drop" else "last"
        study, ground = self.run.study, self.run.ground
        own = {"metric": ground.metric, **ground.settings, **self.rival.settings, "scheme": scheme}
        # One exit, which needs no head of its own; and no layer 0, which every rival could have as well.
        alone = {"heads": "shared", "words": False, "seed": self.run.seed}
        found = TrainSettings.from_dict({**study.settings, **own, **alone})
        return replace(found, epochs=round(found.epochs * depth / (self.layers or depth)))

    def train(self, data: Path, start: str, folder: Path, model: str) -> None:
        """Train into `folder`/`model` if need be, going on with what was broken off.

        Args:
            data: folder with a folder per corpus.
            start: what the study begins with.
            folder: of this run, beside those of the others.
            model: what models are called in there.
        """
        out = folder / model
        if out.exists():
            return
        depth = load_model(start, num_labels=2)[0].num_layers
        settings, (learn, kept) = self.settings(depth), self.run.parts(data)
        teacher = None
        if self.rival.teacher is not None:
            taught_by = replace(self.run, scheme=self.rival.teacher).name
            teacher = str(folder.parent / taught_by / model)
            if not Path(teacher).exists():
                raise ElbertError(f"{self.name} is taught by {taught_by}, whose model is gone: train it again")
        begun = cut(start, self.layers, folder.parent) if self.layers else start
        whole = out if self.layers else out.with_name(WHOLE)
        if not whole.exists():
            network, tokenizer = start_model(begun, learn, settings)
            resume, named = whole.with_name(f"{whole.name}.partial").exists(), self.run.study.start
            train(
                network,
                tokenizer,
                learn,
                kept,
                settings,
                whole,
                resume,
                progress=False,
                model_name=named,
                teacher=teacher,
            )
        if whole != out:
            network, tokenizer, elbert = load_model(str(whole))
            keep_layers(network, range(1, depth + 1, 2))
            with whole_folder(out) as fresh:
                network.save_pretrained(fresh, tokenizer=tokenizer, elbert=elbert)


@dataclass(frozen=True)
class Standing:
    """How a rival does beside the policies of one kind of training.

    Attributes:
        rival: its name.
        layers: that every text runs.
        models: one a seed.
        score: of the texts to report on.
        scheme: the kind of training it is held against.
        policies: score there at as many layers on average, by policy, with what the rival's is above it and that
            difference's band, of pairs of the same resamples.
        trained: what was said of each training.
    """

    rival: str
    layers: int
    models: int
    score: float
    scheme: str
    policies: dict[str, tuple[float, float, tuple[float, float]]]
    trained: list[dict[str, Any]]


def standing(
    rival: str, seeds: Sequence[Answers], scheme: str, judged: Judged, metric: str | None, bootstrap: int
) -> Standing:
    """Hold a rival against policies at as many layers.

    Args:
        rival: its name.
        seeds: what its models answered, in the order of the seeds.
        scheme: the kind of training it is held against.
        judged: that, over as many seeds.
        metric: what scores are.
        bootstrap: resamples, as many as were judged with.
    """
    _, layers, classes = seeds[0].test.probs.shape
    replays = [replay_all(grids([], layers, classes), answers.test) for answers in seeds]
    drawn = sample(replays, seeds[0].test_labels, metric=metric, bootstrap=bootstrap)
    own, own_drawn = float(drawn.mean.score[0, drawn.full]), drawn.drawn.score[:, drawn.full]
    held, found = judged.held_out, {}
    for name in (name for name in AGAINST if name in held.lines):
        value = float(np.interp(layers, held.at, held.lines[name]))
        values = np.array([np.interp(layers, held.at, line) for line in held.drawn[name]])
        found[name] = (value, own - value, band(own_drawn - values))
    return Standing(rival, layers, len(seeds), own, scheme, found, [answers.trained for answers in seeds])
