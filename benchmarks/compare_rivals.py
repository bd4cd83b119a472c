"""Static rivals of a study: models that run the same fewer layers for every text, beside exits at equal layers.

`first` keeps the first k layers of the start and fine-tunes them; `distilled` does that with a teacher, the model that
another kind of training became on the same texts; `layer_drop` trains all M layers with some left out at random, and
keeps every other one of what comes of it (LayerDrop, Fan et al., ICLR 2020). `early_bert` keeps all layers and makes
them thinner, see `early_bert.py`; it stands at the layers that its multiply-adds are worth. The first two are trained
for M / k times as many epochs, so that each has cost as many layer passes as the model with exits, and `early_bert` by
the same measure; a teacher's own come on top.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compare_judge import Answers
from early_bert import RATE, Kept, Work, draw, share_of_products, without, zero
from early_bert import cut as cut_out
from elbert import Classifier, TrainSettings, train
from elbert.disk import whole_folder
from elbert.engine import Engine
from elbert.engine.placement import DTYPES
from elbert.errors import ElbertError
from elbert.modeling.files.load import load_model
from elbert.training import start_model
from first_layers import cut, keep_layers

if TYPE_CHECKING:
    from compare_study import Run
    from elbert.data import TextDataset
    from elbert.modeling import MultiExitModel

# What a model is called until it is cut; what is left of one with thinner layers, and its work beside the whole one's.
WHOLE, KEPT, WORK = "whole", "kept.safetensors", "work.json"

# What can be kept of a model, and why a kind that has no choice of layers has none.
KINDS = ("first", "distilled", "layer_drop", "early_bert")
# A kind that is made of others and trains nothing, see `compare_cascades.py`.
CASCADE = "cascade"
NO_CHOICE = {"layer_drop": "every other one is kept", "early_bert": "all are kept, and made thinner"}


@dataclass(frozen=True)
class Rival:
    """A static rival as a study names it.

    Attributes:
        name: its own.
        kind: one of `KINDS`.
        layers: how many are kept, a model for each; none for the kinds of `NO_CHOICE`.
        teacher: of `distilled`: the kind of training whose model teaches.
        settings: of training, where they differ from the study's.
    """

    name: str
    kind: str
    layers: tuple[int, ...] = ()
    teacher: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    def run_name(self, layers: int) -> str:
        """Return what the run that keeps so many layers is called, 0 where the kind has no choice."""
        return f"{self.name}-{layers}" if layers else self.name

    @property
    def run_names(self) -> list[str]:
        """What its runs are called."""
        return [self.run_name(layers) for layers in self.layers or (0,)]

    @classmethod
    def read(cls, name: str, content: Mapping[str, Any], schemes: Iterable[str]) -> Rival:
        """Read a rival from its part of a study file; what is wrong there ends the program."""
        found = cls(name, **{**content, "layers": tuple(content.get("layers", ()))})
        if found.kind not in KINDS:
            raise SystemExit(
                f"compare.py: rival {name!r} is of kind {found.kind!r}; allowed: {', '.join((*KINDS, CASCADE))}"
            )
        if bool(found.layers) == (found.kind in NO_CHOICE):
            wanted = f"none, for {NO_CHOICE[found.kind]}" if found.layers else "a list of numbers"
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
        layers: it keeps; 0 for a kind that has no choice.
    """

    run: Run
    rival: Rival
    layers: int

    @property
    def name(self) -> str:
        """The folder's name."""
        return f"{self.run.ground.name}-{self.short}-{self.run.seed}"

    @property
    def short(self) -> str:
        """That without corpus and seed."""
        return self.rival.run_name(self.layers)

    def settings(self, depth: int) -> TrainSettings:
        """Return the settings of this training, where the start has so many layers."""
        scheme = "layer_drop" if self.rival.kind == "layer_drop" else "last"
        study, ground = self.run.study, self.run.ground
        own = {"metric": ground.metric, **ground.settings, **self.rival.settings, "scheme": scheme}
        # One exit, which needs no head of its own; and no layer 0, which every rival could have as well.
        alone = {"heads": "shared", "words": False, "seed": self.run.seed}
        found = TrainSettings.from_dict({**study.settings, **own, **alone})
        share = share_of_products() if self.thinner else (self.layers or depth) / depth
        return replace(found, epochs=round(found.epochs / share))

    @property
    def thinner(self) -> bool:
        """Whether it keeps all layers, without some heads and neurons."""
        return self.rival.kind == "early_bert"

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
            if self.thinner:
                settings = self._make_thinner(network, start, learn, settings, folder)
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
            if self.thinner:
                zero(network, Kept.read(folder / KEPT))
            else:
                keep_layers(network, range(1, depth + 1, 2))
            with whole_folder(out) as fresh:
                network.save_pretrained(fresh, tokenizer=tokenizer, elbert=elbert)

    def _make_thinner(
        self, network: MultiExitModel, start: str, learn: TextDataset, settings: TrainSettings, folder: Path
    ) -> TrainSettings:
        """Draw what is to stay, if need be, leave the rest out of `network`, and return what it is trained by."""
        if not (folder / KEPT).exists():
            draw(*start_model(start, learn, settings), learn, settings).save(folder / KEPT)
        kept, weights = Kept.read(folder / KEPT), network.weights()
        works = {"whole": Work.of(weights), "left": Work.of(cut_out(weights, kept))}
        (folder / WORK).write_text(json.dumps({name: asdict(work) for name, work in works.items()}))
        without(network, kept)
        rate = settings.resolved(network.config).learning_rate
        return replace(settings, learning_rate=RATE * rate)

    def cost(self, folder: Path, answers: Answers) -> tuple[float, float | None]:
        """Return the layers that every text runs, and the share of the layers' weights that is left where it was cut.

        A thinner model's layers are those of the whole one that its multiply-adds on the texts to report on are worth.
        """
        layers = answers.test.probs.shape[1]
        if not self.thinner:
            return layers, None
        whole, left = (Work(**each) for each in json.loads((folder / WORK).read_text()).values())
        lengths = answers.test.lengths
        return layers * left.on(lengths) / whole.on(lengths), left.weights / whole.weights

    def classifier(self, folder: Path, model: str) -> Classifier:
        """Return the model as it is to be timed: what is thinner runs as such."""
        found = Classifier.from_pretrained(folder / model, dtype=self.run.study.dtype)
        if self.thinner:
            weights = cut_out(found.model.weights(), Kept.read(folder / KEPT))
            found.engine = Engine(weights, dtype=DTYPES[found.dtype], device=found.device)
        return found
