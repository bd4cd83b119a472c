"""The rows of the frontier: how each is trained, what is chosen on the rows held out, and how it scores.

A row is one training, or none, and gives one line or more: the same model in another precision or with other exits.
Lines are plain values, so that a page and a race can be made of them later.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import frontier_cascade
from elbert import Classifier, TextDataset, TrainSettings, train
from elbert.calibration import calibrate
from elbert.calibration.promises import LADDER
from elbert.engine.requests import Arrival
from elbert.evaluation.bench.job import Spec
from elbert.evaluation.bench.machine import machine
from elbert.evaluation.bench.worker import Worker
from elbert.exits import make, replay
from elbert.metadata import read_json
from elbert.modeling.files.sources import find_folder
from elbert.results import LayerOutputs
from elbert.tasks import task_of
from elbert.training import start_model
from elbert.words.fit import fit_at_exits
from first_layers import cut
from frontier_ground import Ground
from frontier_linear import CHARACTERS, WORDS, Fitted, Linear, confidence, fit, tfidf, vectorizers_of, vectors
from frontier_records import LEVELS, Clock, Line, read_lines, size_mb

# What a cascade may lose on the rows held out.
CASCADE_DROP = 0.01


@dataclass(frozen=True)
class Asked:
    """What is trained.

    Attributes:
        model: the encoder of ours: a folder or a bundled name.
        minilm: folder of MiniLM.
        minilm_rate: peak learning rate of its fine-tuning.
        depth: layers of the rival that has the first few of ours.
        dtypes: precisions of ours.
    """

    model: str
    minilm: Path | None
    minilm_rate: float
    depth: int | None
    dtypes: tuple[str, ...]


def answered(ground: Ground, spec: Spec, texts: Sequence[Any], made_with: Sequence[Any]) -> list[Any]:
    """Return a system's answers to texts; what it builds is built with other texts, so that it has not seen these."""
    from elbert.evaluation.bench.systems import SYSTEMS

    job = ground.job(spec.folder or Path(), texts)
    if SYSTEMS[spec.system].builds:
        Worker(replace(job, texts=made_with).of(spec), spec, build=True).stop()
    worker = Worker(job.of(spec), spec)
    try:
        return worker.run(32, len(texts)).answers.labels
    finally:
        worker.stop()


def linear_row(ground: Ground, name: str, row: str, settings: Sequence[dict[str, Any]]) -> list[Line]:
    """TF-IDF and logistic regression, on all training rows."""
    clock = Clock()
    vectorizers = vectorizers_of(settings, ground.train.texts)
    fitted = _fitted(ground, tfidf(vectorizers, ground.train.texts))
    spent = clock.read()
    Linear(*fitted.whole, vectorizers).write(ground.out / row)
    return [_line(ground, name, row, "tfidf", "scikit-learn", f"C {fitted.penalty:g}", spent)]


def frozen_row(ground: Ground, minilm: Path) -> list[Line]:
    """Mean vectors of a frozen encoder and logistic regression, on all training rows."""
    clock = Clock()
    fitted = _fitted(ground, vectors(ground.job(minilm, ()), ground.train.texts))
    spent = clock.read()
    Linear(*fitted.whole, encoder=str(minilm.resolve())).write(ground.out / "frozen")
    line = _line(ground, "MiniLM frozen, mean + LR", "frozen", "frozen", "torch", f"C {fitted.penalty:g}", spent)
    return [replace(line, size_mb=line.size_mb + _encoder_mb(minilm))]


def minilm_row(ground: Ground, asked: Asked, minilm: Path) -> list[Line]:
    """MiniLM fine-tuned at its last layer alone, as everybody does."""
    settings = TrainSettings(scheme="last", learning_rate=asked.minilm_rate, words=False, heads="shared")
    folder, spent = trained(ground, str(minilm), "minilm", settings)
    lines = []
    for system, backend, dtype, graph in (
        ("transformers-batches", "torch", "float32", None),
        ("onnxruntime", "onnxruntime", "int8", "model.int8.onnx"),
        ("openvino", "openvino", "int8", "model.int8.xml model.int8.bin"),
    ):
        spec = Spec(system, backend, dtype, None, folder.resolve())
        answers = answered(ground, spec, ground.test.texts, ground.parts[1].texts)
        graphs = ground.out / "graphs" / "minilm"
        files = [folder / "model.safetensors"] if graph is None else [graphs / name for name in graph.split()]
        name = f"MiniLM fine-tuned, {system.removesuffix('-batches')}"
        size = size_mb(*files, folder / "tokenizer.json")
        lines.append(
            Line(name, "minilm", system, backend, dtype, "minilm", **ground.scores(answers), size_mb=size, **spent)
        )
    return lines


def cascade_row(ground: Ground) -> list[Line]:
    """TF-IDF where it is sure, else MiniLM in int8; the threshold from the rows held out, which neither learnt from."""
    held = ground.parts[1]
    minilm_line = next(line for line in read_lines(ground, "minilm") if line.system == "onnxruntime")
    clock = Clock()
    vectorizers = vectorizers_of((WORDS,), ground.train.texts)
    words = Linear(*_fitted(ground, tfidf(vectorizers, ground.train.texts)).learnt, vectorizers)
    spec = minilm_line.spec(ground)
    theirs = np.asarray(answered(ground, spec, held.texts, held.texts))
    logits = words.logits(held.texts)
    ours = _decisions(ground, logits)
    threshold = cascade_threshold(
        confidence(logits, ground.problem_type),
        ours,
        theirs,
        lambda answers: ground.score(answers, held.labels),
    )
    folder = ground.out / "cascade"
    frontier_cascade.write(folder, words, (ground.out / "minilm").resolve(), threshold)
    spent = {key: (minilm_line.__dict__[key] or 0.0) + value for key, value in clock.read().items()}
    line = _line(
        ground, "TF-IDF, then MiniLM int8", "cascade", "cascade", "onnxruntime", f"above {threshold:.2f}", spent
    )
    return [replace(line, dtype="int8", size_mb=line.size_mb + minilm_line.size_mb)]


def cascade_threshold(sure: Any, first: Any, second: Any, score: Callable[[Any], float]) -> float:
    """Return the lowest threshold at which a cascade loses at most `CASCADE_DROP` against its second stage.

    Args:
        sure: [N] in [0, 1], of the first stage.
        first: [N] or [N, C], what it answers.
        second: likewise.
        score: of answers.
    """
    least = score(second) - CASCADE_DROP
    for threshold in np.linspace(0.3, 0.99, 70).round(2).tolist():
        takes = sure > threshold
        if score(np.where(takes if first.ndim == 1 else takes[:, None], first, second)) >= least:
            return float(threshold)
    return 1.0


def ours_row(ground: Ground, asked: Asked) -> list[Line]:
    """Ours, trained and calibrated by default; in every precision at full depth and at every level of the ladder."""
    spent = trained(ground, asked.model, "ours", TrainSettings())[1]
    return [line for dtype in asked.dtypes for line in _ladder(ground, "ours", "ours", dtype, spent)]


def summed_row(ground: Ground, asked: Asked) -> list[Line]:
    """The same with layer 0 added to every exit, as `words_at_exits` does it at the end of the same training."""
    ours, held = Classifier.from_pretrained(ground.out / "ours"), ground.parts[1]
    if ours.words is None:
        return []
    clock = Clock()
    said = replace(ours.words, at_exits=1.0).added([arrival.read_by_words for arrival in _in_order(ours, held)])
    exits = ours.record(held.texts).logits.numpy()
    ours.engine.words = replace(ours.words, at_exits=fit_at_exits(exits, said, np.asarray(held.labels)))
    ours.save_policies(ground.out / "summed")
    before = read_lines(ground, "ours")[0]
    spent = {
        key: None if getattr(before, key) is None else getattr(before, key) + more for key, more in clock.read().items()
    }
    lines = [line for dtype in asked.dtypes for line in _ladder(ground, "ours + words", "summed", dtype, spent)]
    return [line for line in lines if line.level == "full" or (line.words and line.level == "drop-1")]


def _in_order(classifier: Classifier, dataset: TextDataset) -> list[Arrival]:
    return sorted(classifier.arrivals(dataset.texts, {}), key=lambda arrival: arrival.index)


def _ladder(ground: Ground, title: str, row: str, dtype: str, spent: dict[str, Any]) -> list[Line]:
    """Return a model of ours in one precision, at full depth and calibrated with and without layer 0."""
    folder, held = ground.out / row, ground.parts[1]
    classifier = Classifier.from_pretrained(folder, dtype=dtype)
    learnt, seen = classifier.record(held.texts), classifier.record(ground.test.texts)
    about = {"row": row, "backend": "torch", "dtype": dtype, "folder": row, "size_mb": size_mb(folder)}
    about |= {"layers": classifier.num_layers, **spent}
    lines = [_exits(ground, f"{title}, full depth", make("full"), seen, system="elbert-full", level="full", **about)]
    for words in (True, False) if learnt.words is not None else (False,):
        kept = learnt if words else replace(learnt, words=None)
        for level, found in calibrate(kept, held.labels, LADDER, metric=ground.corpus.metric).items():
            if level not in LEVELS:
                continue
            name = f"{title}, {level}" + ("" if words else ", no layer 0")
            about |= {"level": level, "words": words, "guaranteed": found.guaranteed}
            lines.append(_exits(ground, name, found.policy, seen, system="elbert", **about))
    return lines


def first_row(ground: Ground, asked: Asked) -> list[Line]:
    """The first layers of ours alone, trained without exits for as many layer passes as ours; in every precision."""
    layers = int(read_json(find_folder(asked.model) / "config.json")["num_hidden_layers"])
    depth = asked.depth or max(layers // 3, 1)
    settings = TrainSettings(scheme="last", epochs=round(TrainSettings().epochs * layers / depth), words=False)
    folder, spent = trained(ground, cut(asked.model, depth, ground.out), "first", settings)
    about = {"row": "first", "backend": "torch", "folder": "first", "size_mb": size_mb(folder), "layers": depth}
    name, full = f"the first {depth} layers of ours, equal cost", make("full")
    lines = []
    for dtype in asked.dtypes:
        seen = Classifier.from_pretrained(folder, dtype=dtype).record(ground.test.texts)
        lines.append(_exits(ground, name, full, seen, system="elbert", dtype=dtype, **about, **spent))
    return lines


def trained(ground: Ground, model: str, row: str, settings: TrainSettings) -> tuple[Path, dict[str, Any]]:
    """Train into the row's folder, taking up what was left unfinished; return it and the seconds it took."""
    folder, spent = ground.out / row, ground.out / f"{row}.seconds.json"
    if not folder.exists():
        clock = Clock()
        resume = folder.with_name(f"{row}.partial").exists()
        network, tokenizer = start_model(model, ground.train, settings)
        train(network, tokenizer, ground.train, None, settings, folder, resume, progress=False, model_name=model)
        seconds = dict.fromkeys(clock.read()) if resume else clock.read()
        spent.write_text(json.dumps(seconds), encoding="utf-8")
    return folder, json.loads(spent.read_text(encoding="utf-8"))


def dtypes_here() -> tuple[str, ...]:
    """Return the precisions in which this processor gains anything with ours."""
    found = machine()
    bf16 = found["avx512_bf16"] or found["amx_bf16"]
    return ("float32", *(("bfloat16",) if bf16 else ()), *(("int8",) if torch.cpu._is_avx2_supported() else ()))


def _fitted(ground: Ground, values: Any) -> Fitted:
    """Fit logistic regressions on vectors [N, K] of the training rows."""
    targets, held = np.asarray(ground.train.labels), ground.held_out
    wanted = targets[held]

    def score(logits: Any) -> float:
        return ground.score(_decisions(ground, logits), wanted)

    return fit(values, targets, held, ground.classes, score)


def _decisions(ground: Ground, logits: Any) -> Any:
    task = task_of(ground.problem_type)
    return np.asarray(task.decisions(task.probabilities(np.asarray(logits))))


def _line(ground: Ground, name: str, row: str, system: str, backend: str, note: str, spent: dict[str, float]) -> Line:
    """Return the line of a linear model whose folder is written."""
    folder = ground.out / row
    spec = Spec(system, backend, "float32", None, folder.resolve())
    scores = ground.scores(answered(ground, spec, ground.test.texts, ground.parts[1].texts))
    return Line(name, row, system, backend, "float32", row, **scores, size_mb=size_mb(folder), **spent, note=note)


def _exits(ground: Ground, name: str, policy: Any, seen: LayerOutputs, **about: Any) -> Line:
    """Return the line of exits on recorded texts."""
    exit_layer = replay(policy, seen).numpy()
    answers = task_of(ground.problem_type).decisions(seen.at(exit_layer)).numpy()
    depth = {"mean_exit_layer": float(exit_layer.mean()), "layer_0": float((exit_layer == 0).mean())}
    return Line(name, **about, policy=policy.to_dict(), **depth, **ground.scores(answers))


def _encoder_mb(folder: Path) -> float:
    return size_mb(folder / "model.safetensors", folder / "tokenizer.json")


def rows(asked: Asked) -> dict[str, Callable[[Ground], list[Line]]]:
    """Return every row by name, in the order in which they are made: what is cheap first, what others need before them.

    Rows of MiniLM are left out where its folder isn't given.
    """
    made: dict[str, Callable[[Ground], list[Line]]] = {
        "tfidf": lambda ground: linear_row(ground, "TF-IDF, words 1–2 + LR", "tfidf", (WORDS,)),
        "chars": lambda ground: linear_row(ground, "TF-IDF, words and characters + LR", "chars", (WORDS, CHARACTERS)),
    }
    minilm = asked.minilm
    if minilm is not None:
        made["frozen"] = lambda ground: frozen_row(ground, minilm)
    made["ours"] = lambda ground: ours_row(ground, asked)
    made["summed"] = lambda ground: summed_row(ground, asked)
    if minilm is not None:
        made["minilm"] = lambda ground: minilm_row(ground, asked, minilm)
        made["cascade"] = lambda ground: cascade_row(ground)
    made["first"] = lambda ground: first_row(ground, asked)
    return made
