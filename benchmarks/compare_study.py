"""What a study of `compare.py` is: its file, its trainings, and what a trained model answers, kept to be replayed."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from checkpoints import HELD_OUT, limited
from compare_cascades import Chain
from compare_judge import Answers
from compare_rivals import CASCADE, Rival, RivalRun
from compare_tables import plain
from elbert import Classifier, TrainSettings, load_data, train
from elbert.data import TextDataset, split
from elbert.disk import whole_folder
from elbert.errors import ElbertError, UsageError, did_you_mean
from elbert.exits.gates import SkipGates
from elbert.modeling.files.policies import read_tensors, write_tensors
from elbert.results import LayerOutputs
from elbert.tasks import task_of
from elbert.training import start_model

RECORDS, MODEL, ABOUT = "records", "model", "about.json"
PARTS = ("held_out", "test")


@dataclass(frozen=True)
class Ground:
    """A corpus of a study.

    Attributes:
        name: its folder's.
        test: the part to report on.
        metric: what scores are; None for the problem's own.
        train_rows: rows to learn from at most, drawn class by class; None takes all.
        test_rows: rows to report on at most.
        settings: of training, where they differ from the study's.
    """

    name: str
    test: str = "test"
    metric: str | None = None
    train_rows: int | None = None
    test_rows: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """A study file.

    Attributes:
        start: what is fine-tuned: a folder, a bundled name or a hub id.
        corpora: in the order they are run.
        schemes: kinds of training by name; settings of each, where they differ from the study's.
        seeds: of the division of the training texts, and of training.
        settings: of training, for all.
        dtype: what answers are recorded in.
        rivals: models with fewer layers, or thinner ones, for every text.
        chains: cascades of these.
    """

    start: str
    corpora: tuple[Ground, ...]
    schemes: dict[str, dict[str, Any]]
    seeds: tuple[int, ...] = (0,)
    settings: dict[str, Any] = field(default_factory=dict)
    dtype: str = "float32"
    rivals: tuple[Rival, ...] = ()
    chains: tuple[Chain, ...] = ()

    @classmethod
    def read(cls, path: Path) -> Study:
        """Read a study from its TOML file."""
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        grounds = tuple(Ground(**each) for each in content.pop("corpora"))
        named = content.pop("rivals", {})
        whole = {name: each for name, each in named.items() if each.get("kind") == CASCADE}
        rivals = [Rival.read(name, each, content["schemes"]) for name, each in named.items() if name not in whole]
        runs = [run for rival in rivals for run in rival.run_names]
        chains = [chain for name, each in whole.items() for chain in Chain.read(name, each, runs)]
        seeds = tuple(content.pop("seeds", (0,)))
        return cls(corpora=grounds, seeds=seeds, rivals=tuple(rivals), chains=tuple(chains), **content)

    def part(
        self,
        corpora: Collection[str] | None,
        schemes: Collection[str] | None,
        seeds: Collection[int] | None,
        rivals: Collection[str] | None,
    ) -> Study:
        """Return the study with some of each only; None takes all.

        A cascade brings the rivals it is made of along; one that is taught by a kind of training that is left out is
        left out too.

        Raises:
            UsageError: the study has no such part.
        """
        lines = [each.name for each in (*self.rivals, *self.chains)]
        for kind, asked, own in (
            ("corpus", corpora, [each.name for each in self.corpora]),
            ("scheme", schemes, list(self.schemes)),
            ("seed", seeds, self.seeds),
            ("rival", rivals, lines),
        ):
            for each in asked or ():
                if each not in own:
                    raise UsageError(f"the study has no {kind} {each!r}{did_you_mean(str(each), map(str, own))}")
        taken = {name: own for name, own in self.schemes.items() if schemes is None or name in schemes}
        chains = tuple(each for each in self.chains if rivals is None or each.name in rivals)
        members = {member for chain in chains for member in chain.members}
        return replace(
            self,
            corpora=tuple(each for each in self.corpora if corpora is None or each.name in corpora),
            schemes=taken,
            seeds=tuple(each for each in self.seeds if seeds is None or each in seeds),
            rivals=tuple(
                each
                for each in self.rivals
                if (rivals is None or each.name in rivals or not members.isdisjoint(each.run_names))
                and each.teacher in (None, *taken)
            ),
            chains=chains,
        )

    def runs(self) -> Iterator[Run]:
        """Yield every run: all of the first seed before any of the next, so that what is there early is whole."""
        for seed in self.seeds:
            for ground in self.corpora:
                for scheme in self.schemes:
                    yield Run(self, ground, scheme, seed)

    def rival_runs(self) -> Iterator[RivalRun]:
        """Yield every run of a rival, in the same order; the kinds of training come before, for some of them teach."""
        for seed in self.seeds:
            for ground in self.corpora:
                run = Run(self, ground, next(iter(self.schemes)), seed)
                for rival in self.rivals:
                    for layers in rival.layers or (0,):
                        yield RivalRun(run, rival, layers)

    @property
    def teachers(self) -> set[str]:
        """Kinds of training whose models teach rivals."""
        return {rival.teacher for rival in self.rivals if rival.teacher is not None}


@dataclass(frozen=True)
class Run:
    """One training of a study: a corpus, a kind of training, a seed."""

    study: Study
    ground: Ground
    scheme: str
    seed: int

    @property
    def name(self) -> str:
        """The folder's name."""
        return f"{self.ground.name}-{plain(self.scheme)}-{self.seed}"

    @property
    def settings(self) -> TrainSettings:
        """Of this training."""
        own = {"scheme": self.scheme, **self.study.schemes[self.scheme]}
        metric = {"metric": self.ground.metric}
        every = {**self.study.settings, **metric, **self.ground.settings, **own, "seed": self.seed}
        return TrainSettings.from_dict(every)

    def parts(self, data: Path) -> tuple[TextDataset, TextDataset]:
        """Return what is learnt from and the tenth that is kept aside."""
        whole = limited(load_data(data / self.ground.name, split="train"), self.ground.train_rows)
        return split(whole, HELD_OUT, self.seed)

    def train(self, data: Path, start: str, folder: Path) -> None:
        """Train into `folder`/model if need be, going on with what was broken off."""
        out = folder / MODEL
        if out.exists():
            return
        settings, (learn, kept) = self.settings, self.parts(data)
        network, tokenizer = start_model(start, learn, settings)
        resume = out.with_name(f"{MODEL}.partial").exists()
        train(network, tokenizer, learn, kept, settings, out, resume, progress=False, model_name=self.study.start)

    def record(self, data: Path, folder: Path) -> None:
        """Let the model answer both parts, and keep what it said at every exit."""
        classifier = Classifier.from_pretrained(folder / MODEL, dtype=self.study.dtype)
        test = load_data(data / self.ground.name, split=self.ground.test, labels=classifier.labels)
        gates = classifier.policies["gated"].gates if "gated" in classifier.policies else None
        sets = dict(zip(PARTS, (self.parts(data)[1], limited(test, self.ground.test_rows)), strict=True))
        with whole_folder(folder / RECORDS) as fresh:
            for part, dataset in sets.items():
                said = classifier.record(dataset.texts, pooled=True, gates=gates)
                if said.pooled is None or dataset.labels is None:
                    raise ElbertError(f"{dataset.name} has no labels or no states to keep")
                tensors = {"logits": said.logits, "lengths": said.lengths, "pooled": said.pooled}
                if said.depth is not None:
                    tensors["depth"] = said.depth
                labels = torch.from_numpy(np.asarray(dataset.labels))
                save_file({**tensors, "labels": labels}, fresh / f"{part}.safetensors")
            write_tensors(fresh, {name: each.tensors() for name, each in classifier.fitted.items()})
            about = {"problem_type": said.problem_type, "labels": classifier.labels.names, "dtype": classifier.dtype}
            if gates is not None:
                about["gates"] = gates.threshold
            trained = json.loads((folder / MODEL / "elbert.json").read_text())["training"]
            kept = {name: trained[name] for name in ("seconds", "steps", "train_rows", "learning_rate", "dtype")}
            (fresh / ABOUT).write_text(json.dumps({**about, "training": kept}))


def read(folder: Path, *, states: bool = True) -> Answers:
    """Read what `Run.record` wrote; without the states, which are most of it, for those who fit no policy."""
    about = json.loads((folder / RECORDS / ABOUT).read_text())
    kind, gates, found = about["problem_type"], SkipGates(about["gates"]) if "gates" in about else None, []
    for part in PARTS:
        tensors = load_file(folder / RECORDS / f"{part}.safetensors")
        labels = tensors.pop("labels").numpy()
        if not states:
            del tensors["pooled"]
        said = LayerOutputs(
            probs=task_of(kind).probabilities(tensors["logits"]), problem_type=kind, gates=gates, **tensors
        )
        found += [said, labels]
    return Answers(*found, about["training"], read_tensors(folder / RECORDS))
