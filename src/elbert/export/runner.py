#!/usr/bin/env python3
"""Classifies texts with the exported model beside this file; every text leaves at the first layer that is sure of it.

What the words of a text say is asked first, where the model has a layer 0 and the exit policy a threshold for it.

    python run.py "a wonderful film" "never again"
    python run.py --pair "A man sleeps." "Somebody is awake."
    python run.py < texts.txt                                   one text a line; with --pair two, a tab between them

Writes one JSON object a line, in input order: label, score, exit_layer, layers, truncated. The exit policy is the
default one of elbert.json. Needs numpy, tokenizers, and onnxruntime or openvino, whichever the model was exported for.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

try:
    import numpy as np
    from tokenizers import Encoding, Tokenizer
except ImportError as problem:
    sys.exit(f"run.py: numpy and tokenizers are needed ({problem}): run pip install numpy tokenizers")

Array = np.ndarray[Any, Any]
Run = Callable[[dict[str, Array]], list[Array]]
RULES = "rules"  # the folder of elbert's own modules that decide who leaves
WORDS = "words.safetensors"  # layer 0

BATCH = 32  # texts run together


def main(words: list[str]) -> None:
    """Classify the texts named on the command line, or those on standard input."""
    end = words.index("--") if "--" in words else len(words)
    flags = {word for word in words[:end] if word.startswith("-") and word != "-"}
    if {"-h", "--help"} & flags:
        sys.stdout.write(__doc__ or "")
        return
    if unknown := flags - {"--pair"}:
        _refuse(f"unknown flag {min(unknown)!r}; known: --pair, --help; a text that begins with - goes behind --")
    paired = "--pair" in flags
    texts = [word for word in words[:end] if word not in flags] + words[end + 1 :]
    if "-" in words[:end] and len(texts) > 1:
        _refuse(f"- reads standard input and stands alone, {len(texts)} texts were given; a text - goes behind --")
    source = _lines(paired) if not texts or "-" in words[:end] else _given(texts, paired)
    model = Model(Path(__file__).resolve().parent)
    if model.pairs not in (None, paired):
        learnt, given = ("pairs of texts", "single texts") if model.pairs else ("single texts", "pairs of texts")
        sys.stderr.write(f"run.py: warning: the model learnt from {learnt} and is given {given} (--pair)\n")
    while batch := list(islice(source, BATCH)):
        for answer in model.classify(batch):
            sys.stdout.write(json.dumps(answer, ensure_ascii=False, allow_nan=False) + "\n")
        sys.stdout.flush()


def _refuse(problem: str) -> NoReturn:
    sys.stderr.write(f"run.py: {problem}\n")
    sys.exit(2)  # the request was wrong; 1 is for one that failed


def _given(texts: list[str], paired: bool) -> Iterator[Any]:
    if paired and len(texts) % 2:
        _refuse(f"--pair takes an even number of texts, {len(texts)} were given")
    "".join(texts).encode()  # an argument that was no UTF-8 ends the run here
    return iter(list(zip(texts[::2], texts[1::2], strict=True)) if paired else texts)


def _lines(paired: bool) -> Iterator[Any]:
    number = 0
    for number, raw in enumerate(sys.stdin.buffer, start=1):
        line = raw.decode("utf-8-sig" if number == 1 else "utf-8").removesuffix("\n").removesuffix("\r")
        if paired and line.count("\t") != 1:
            sys.exit(f"run.py: line {number}: --pair needs two texts with one tab between them")
        yield tuple(line.split("\t")) if paired else line
    if not number:
        sys.exit("run.py: standard input: no texts; give at least one")


@contextmanager
def _readable(path: Path) -> Iterator[Path]:
    """Give the path; whatever goes wrong in the block is said in one line about that file."""
    try:
        yield path
    except Exception as problem:
        said = f"{type(problem).__name__}: {' '.join(str(problem).split())[-200:]}"
        state = f"cannot be read ({said})" if path.is_file() else "is missing"
        raise SystemExit(f"run.py: {path} {state}: export the model again") from problem


class Model:
    """The exported folder, ready to run: elbert.json, config.json, tokenizer.json and the graphs."""

    def __init__(self, folder: Path) -> None:
        with _readable(folder / "elbert.json") as path:
            content = json.loads(path.read_text(encoding="utf-8"))
            export, length = content["export"], content["max_length"]
            self.pairs: bool | None = content.get("pairs")  # whether the model was trained on pairs of texts
            chosen, misfit = content["policies"][content["default_policy"]], misfit_in(content)
            self.labels: list[str] = export["labels"]
            self.problem: str = export["problem_type"]
            self.token_types, self.pair_types = export["token_types"], export["pair_token_types"]
            self.positions: bool = export.get("positions", True)
            runtime, dtype, side = RUNTIMES[export["backend"]], export["dtype"], export["truncation_side"]
            self.means: list[bool] = export[
                "means"
            ]  # by exit, whether it reads the mean over the tokens, not the first
            self.token_eps: float | None = export["token_eps"]  # of the norm that each passes before that mean
            asked = export.get("words", False)  # whether there is a layer 0
            embed, layers = export["embed"], list(zip(export["steps"], export["heads"], strict=True))
        self.rules = _rules(folder / RULES)
        self.task = self.rules.task_of(self.problem)
        try:
            self.policy = self.rules.ExitPolicy.from_dict(chosen)
        except Exception as problem:  # noqa: BLE001 - whatever stands in the file
            sys.exit(f"run.py: {folder / 'elbert.json'}: default_policy: {problem}; choose another, or export again")
        with _readable(folder / "tokenizer.json") as path:
            self.tokenizer = Tokenizer.from_file(str(path))
        self.words = None
        if asked or (folder / WORDS).exists():
            with _readable(folder / WORDS) as path:
                self.words = self.rules.WordModel.from_tensors(_tensors(path))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(length, direction=side)

        def load(name: str, output: str, precision: str) -> Run:
            if not (folder / name).resolve().is_relative_to(folder):
                sys.exit(
                    f"run.py: elbert.json names the graph {name!r}, which lies outside its folder: export it again"
                )
            with _readable(folder / name) as path:
                return runtime(path, [output], precision)

        self.embed = load(embed, "hidden", "float32")
        steps = {name: load(name, "stepped", dtype) for name in dict.fromkeys(step for step, _ in layers)}
        heads = {name: load(name, "logits", "float32") for name in dict.fromkeys(head for _, head in layers)}
        self.layers = [(steps[step], heads[head]) for step, head in layers]
        if misfit:
            sys.stderr.write(f"run.py: warning: {misfit}; run elbert calibrate on this folder\n")

    def classify(self, texts: list[Any]) -> list[dict[str, Any]]:
        """Return one answer per text (or pair), in order."""
        encodings = self.tokenizer.encode_batch(texts)
        lengths = np.array([len(encoding.ids) for encoding in encodings])
        reach = 0 if self.words is None else self.words.reach
        read = [self.rules.read_by_words(encoding, reach) for encoding in encodings]  # by layer 0
        answers = self._by_words(read, encodings)
        rows = np.setdiff1d(np.arange(len(texts)), list(answers))  # of the texts still in the network
        added = None if self.words is None else self.words.added([read[row] for row in rows])
        if not len(rows):
            return [answers[index] for index in range(len(texts))]
        lengths = lengths[rows]
        # [tokens, H]: the texts' tokens behind one another
        hidden = self._embed([texts[row] for row in rows], [encodings[row] for row in rows], lengths)
        state: dict[str, Array] | None = None  # what the policy remembers of them
        for depth, (step, head) in enumerate(self.layers, start=1):
            hidden = step({"hidden": hidden, **_padding(lengths)})[0]
            starts = np.cumsum(lengths) - lengths
            if self.means[depth - 1]:
                states = hidden if self.token_eps is None else _normed(hidden, self.token_eps)
                read = np.add.reduceat(states, starts) / lengths[:, None].astype(np.float32)
            else:
                read = hidden[starts]
            logits = head({"cls": read})[0] if added is None else head({"cls": read})[0] + added
            if not np.isfinite(logits).all():
                sys.exit(f"run.py: the model's output at layer {depth} is NaN or infinite; export it again")
            probs = self.task.probabilities(logits)
            state = self.policy.start(len(rows), logits.shape[1]) if state is None else state
            said = self.rules.ExitOutput(probs, logits, None, self.problem)
            leave, state = self.policy.update(state, said, np.full(len(rows), depth))
            leave = leave | (depth == len(self.layers))
            for row in np.flatnonzero(leave):
                cut = bool(encodings[rows[row]].overflowing)
                answers[int(rows[row])] = self._answer(probs[row], depth, cut)
            if leave.all():
                break
            stay = ~leave
            hidden, lengths, rows = hidden[stay.repeat(lengths)], lengths[stay], rows[stay]
            added = None if added is None else added[stay]
            state = self.rules.select(state, stay)
        return [answers[index] for index in range(len(texts))]

    def _by_words(self, read: list[list[int]], encodings: list[Encoding]) -> dict[int, dict[str, Any]]:
        """Return the answers of layer 0 to the texts it is sure of, by their place."""
        if self.words is None or self.policy.words is None:
            return {}
        logits = self.words.logits(*self.rules.packed(read))
        probs = self.task.probabilities(logits)
        sure = self.rules.by_words(probs, self.task, self.policy.words)
        return {
            row: self._answer(probs[row], 0, bool(encodings[row].overflowing)) for row in np.flatnonzero(sure).tolist()
        }

    def _embed(self, texts: list[Any], encodings: list[Encoding], lengths: Array) -> Array:
        feeds = {"ids": np.concatenate([np.array(encoding.ids, np.int64) for encoding in encodings])}
        if self.positions:
            feeds["positions"] = np.concatenate([np.arange(length) for length in lengths])
        if self.token_types:
            # A single text is of type 0 throughout, whatever its tokenizer says.
            typed = [self.pair_types and isinstance(text, tuple) for text in texts]
            types = [np.array(e.type_ids, np.int64) * told for e, told in zip(encodings, typed, strict=True)]
            feeds["token_types"] = np.concatenate(types)
        return self.embed(feeds)[0]

    def _answer(self, probs: Array, depth: int, truncated: bool) -> dict[str, Any]:
        [(label, score)] = self.task.answers(probs[None], self.labels)
        answer: dict[str, Any] = self.rules.Prediction(label, score, depth, len(self.layers), truncated).to_dict()
        return answer


def _normed(states: Array, eps: float) -> Array:
    """Return states [tokens, H], each with mean 0 and variance 1."""
    states = states - states.mean(-1, keepdims=True)
    normed: Array = states / np.sqrt((states**2).mean(-1, keepdims=True) + np.float32(eps))
    return normed


def _padding(lengths: Array) -> dict[str, Array]:
    """Return what a step needs to lay packed tokens out as a block for attention, and to bring them back."""
    places = np.arange(lengths.max())
    real = places < lengths[:, None]  # [rows, longest]
    pad = (np.cumsum(lengths) - lengths)[:, None] + np.minimum(places, lengths[:, None] - 1)
    mask = np.where(real, np.float32(0), np.float32(-1e9))[:, None, None, :]
    return {"pad": pad, "unpad": np.flatnonzero(real), "mask": mask}


def _tensors(path: Path) -> dict[str, Array]:
    """Return the arrays of a safetensors file: the length of a header, the header in JSON, the numbers."""
    kinds = {"F16": np.float16, "F32": np.float32, "I32": np.int32}
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header.pop("__metadata__", None)
    found = {}
    for name, each in header.items():
        first, end = (start + place for place in each["data_offsets"])
        found[name] = np.frombuffer(content[first:end], kinds[each["dtype"]]).reshape(each["shape"])
    return found


def _rules(folder: Path) -> SimpleNamespace:
    """Return what the modules beside this file say: the very ones that elbert itself decides by."""
    if (folder / "elbert").is_dir():  # not so where elbert reads this file as a module of its own
        sys.path.insert(0, str(folder))
    with _readable(folder):
        exits, state = import_module("elbert.exits"), import_module("elbert.exits.state")
        results, tasks = import_module("elbert.results"), import_module("elbert.tasks")
        by_words, words = import_module("elbert.exits.words"), import_module("elbert.words")
    return SimpleNamespace(
        ExitPolicy=exits.ExitPolicy,
        ExitOutput=results.ExitOutput,
        Prediction=results.Prediction,
        task_of=tasks.task_of,
        select=state.select,
        by_words=by_words.by_words,
        WordModel=words.WordModel,
        read_by_words=words.read_by_words,
        packed=words.packed,
    )


def misfit_in(content: dict[str, Any]) -> str | None:
    """Return how the default policy of an elbert.json was calibrated otherwise than it runs here, or None."""
    name, here = content["default_policy"], content["export"]
    made = dict(content.get("calibration") or {}).get(name)
    made = made if isinstance(made, dict) else {}
    other = [f"{made[key]}, not {here[key]}" for key in ("dtype", "backend") if made.get(key, here[key]) != here[key]]
    return f"policy {name!r} was calibrated in {' and '.join(other)}: its promise may not hold" if other else None


def _import(package: str) -> Any:
    try:
        return import_module(package)
    except ImportError as problem:
        said = " ".join(str(problem).split())
        sys.exit(f"run.py: {package} cannot be imported ({said}): run pip install {package}")


def _onnxruntime(path: Path, outputs: list[str], dtype: str) -> Run:  # noqa: ARG001
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # or it reports every import
    ort = _import("onnxruntime")
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda feeds: list(session.run(outputs, feeds))


@cache
def _core(ov: Any) -> Any:
    return ov.Core()  # one for all graphs: of two the later puts back a signal stack that the earlier has freed


def _openvino(path: Path, outputs: list[str], dtype: str) -> Run:
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # or it reports every import
    ov = _import("openvino")
    core = _core(ov)
    hints = {"INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[dtype], "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(core.read_model(str(path)), "CPU", hints).create_infer_request()

    def run(feeds: dict[str, Array]) -> list[Array]:
        answers = request.infer(feeds)
        return [answers[name] for name in outputs]

    return run


RUNTIMES = {"onnxruntime": _onnxruntime, "openvino": _openvino}

if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UnicodeError as problem:
        sys.exit(f"run.py: a text is not UTF-8 ({problem}); save the texts as UTF-8")
    except (BrokenPipeError, KeyboardInterrupt):
        os._exit(1)  # nobody reads on; a last flush would only fail again
