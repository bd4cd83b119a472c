#!/usr/bin/env python3
"""Classifies texts with the exported model beside this file; every text leaves at the first layer that is sure of it.

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
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

try:
    import numpy as np
    from tokenizers import Encoding, Tokenizer
except ImportError as problem:
    sys.exit(f"run.py: numpy and tokenizers are needed ({problem}): run pip install numpy tokenizers")

Array = np.ndarray[Any, Any]
Run = Callable[[dict[str, Array]], list[Array]]
Policy = dict[str, Any]

BATCH = 32  # texts run together
LABEL_CUT = 0.5  # a label of a multi-label text is said from this probability on


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
        if paired and "\t" not in line:
            sys.exit(f"run.py: line {number}: --pair needs two texts with a tab between them")
        yield tuple(line.split("\t", 1)) if paired else line
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
            self.policy = content["policies"][content["default_policy"]]
            unknown, misfit = unknown_in(self.policy), misfit_in(content)
            self.labels: list[str] = export["labels"]
            self.problem: str = export["problem_type"]
            self.token_types, self.pair_types = export["token_types"], export["pair_token_types"]
            self.positions: bool = export.get("positions", True)
            runtime, dtype, side = RUNTIMES[export["backend"]], export["dtype"], export["truncation_side"]
            embed, layers = export["embed"], list(zip(export["steps"], export["heads"], strict=True))
        if unknown:
            sys.exit(f"run.py: {unknown}; choose another default_policy in elbert.json, or use elbert predict")
        with _readable(folder / "tokenizer.json") as path:
            self.tokenizer = Tokenizer.from_file(str(path))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(length, direction=side)

        def load(name: str, output: str, precision: str) -> Run:
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
        hidden = self._embed(texts, encodings, lengths)  # [tokens, H]: the texts' tokens behind one another
        rows = np.arange(len(texts))  # of the texts still in the network
        seen: Array | None = None  # [rows, layers, C]: what their exits have said
        answers: dict[int, dict[str, Any]] = {}
        for depth, (step, head) in enumerate(self.layers, start=1):
            hidden = step({"hidden": hidden, **_padding(lengths)})[0]
            logits = head({"cls": hidden[np.cumsum(lengths) - lengths]})[0]
            if not np.isfinite(logits).all():
                sys.exit(f"run.py: the model's output at layer {depth} is NaN or infinite; export it again")
            probs = _probabilities(logits, self.problem)
            seen = probs[:, None] if seen is None else np.concatenate([seen, probs[:, None]], 1)
            leave = POLICIES[self.policy["name"]][0](self.policy, seen, logits, _read_as(probs, self.problem))
            leave = leave | (depth == len(self.layers))
            for row in np.flatnonzero(leave):
                cut = bool(encodings[rows[row]].overflowing)
                answers[int(rows[row])] = self._answer(probs[row], logits[row], depth, cut)
            if leave.all():
                break
            stay = ~leave
            hidden, lengths, rows, seen = hidden[stay.repeat(lengths)], lengths[stay], rows[stay], seen[stay]
        return [answers[index] for index in range(len(texts))]

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

    def _answer(self, probs: Array, logits: Array, depth: int, truncated: bool) -> dict[str, Any]:
        label: Any
        score: Any
        if self.problem == "single_label_classification":
            label, score = self.labels[int(probs.argmax())], float(probs.max())
        elif self.problem == "multi_label_classification":
            chosen = np.flatnonzero(probs >= LABEL_CUT)
            label, score = [self.labels[index] for index in chosen], probs[chosen].tolist()
        else:
            label, score = (float(logits[0]) if len(logits) == 1 else logits.tolist()), None
        layers = len(self.layers)
        return {"label": label, "score": score, "exit_layer": depth, "layers": layers, "truncated": truncated}


def _padding(lengths: Array) -> dict[str, Array]:
    """Return what a step needs to lay packed tokens out as a block for attention, and to bring them back."""
    places = np.arange(lengths.max())
    real = places < lengths[:, None]  # [rows, longest]
    pad = (np.cumsum(lengths) - lengths)[:, None] + np.minimum(places, lengths[:, None] - 1)
    mask = np.where(real, np.float32(0), np.float32(-1e9))[:, None, None, :]
    return {"pad": pad, "unpad": np.flatnonzero(real), "mask": mask}


def _probabilities(logits: Array, problem: str) -> Array:
    """Return softmax, sigmoid or the raw values of logits [rows, C]."""
    if problem == "single_label_classification":
        powers = np.exp(logits - logits.max(-1, keepdims=True))
        return np.asarray(powers / powers.sum(-1, keepdims=True))
    return (np.tanh(logits / 2) + 1) / 2 if problem == "multi_label_classification" else logits


def _read_as(probs: Array, problem: str) -> str:
    """Return how a policy reads probs: a softmax over one class says nothing, so it counts as a regression value."""
    single = problem == "single_label_classification" and probs.shape[-1] == 1
    return "regression" if single else problem


# The exit policies, by the same rules as elbert's own: (settings, seen [rows, layers, C], logits [rows, C] of the last
# layer, how to read them) -> who leaves, [rows].


def _elbert(policy: Policy, seen: Array, logits: Array, kind: str) -> Array:  # noqa: ARG001
    sure = np.asarray(_puzzlement(seen[:, -1], kind) < policy["threshold"])
    window = policy["window"]
    if window is None or seen.shape[1] < window:
        return sure
    return np.asarray(sure | _CRITERIA[policy["criterion"]](seen[:, -window:], kind, policy["tolerance"]))


def _by_entropy(policy: Policy, seen: Array, logits: Array, kind: str) -> Array:  # noqa: ARG001
    measure = _puzzlement if policy["normalized"] else _entropy
    return np.asarray(measure(seen[:, -1], kind) < policy["threshold"])


def _max_prob(policy: Policy, seen: Array, logits: Array, kind: str) -> Array:
    probs, temperatures = seen[:, -1], policy["temperature"]
    if kind == "regression":
        return np.zeros(len(seen), bool)
    if temperatures is not None:
        scale = np.float32(temperatures[min(seen.shape[1], len(temperatures)) - 1])
        probs = _probabilities(logits / scale, kind)
    sure = np.maximum(probs, 1 - probs).min(-1) if kind == "multi_label_classification" else probs.max(-1)
    return np.asarray(sure > policy["threshold"])


def _patience(policy: Policy, seen: Array, logits: Array, kind: str) -> Array:  # noqa: ARG001
    if seen.shape[1] <= policy["patience"]:
        return np.zeros(len(seen), bool)
    window = seen[:, -policy["patience"] - 1 :]
    if kind == "regression":
        return np.asarray((np.abs(np.diff(window, axis=1)) < policy["tolerance"]).all((1, 2)))
    return _agreement(window, kind, 0)


def _depth(policy: Policy, seen: Array, logits: Array, kind: str) -> Array:  # noqa: ARG001
    return np.full(len(seen), seen.shape[1] >= policy.get("layer", np.inf))


def _nats(probs: Array) -> Array:
    return -probs * np.log(np.where(probs > 0, probs, 1))


def _entropy(probs: Array, kind: str) -> Array:
    if kind == "regression":
        return np.full(len(probs), np.inf, np.float32)
    multi = kind == "multi_label_classification"
    return np.asarray((_nats(probs) + _nats(1 - probs)).max(-1) if multi else _nats(probs).sum(-1))


def _puzzlement(probs: Array, kind: str) -> Array:
    """Return the entropy as a share of the greatest possible."""
    if kind == "regression":
        return np.ones(len(probs), np.float32)
    return _entropy(probs, kind) / np.float32(np.log(2 if kind == "multi_label_classification" else probs.shape[-1]))


def _labels(probs: Array, kind: str) -> Array:
    """Return what each output predicts, to be compared: a class, or a set of classes."""
    return probs >= LABEL_CUT if kind == "multi_label_classification" else probs.argmax(-1)[..., None]


def _monotone(window: Array, kind: str, tolerance: float) -> Array:  # noqa: ARG001
    if kind == "regression":
        return np.zeros(len(window), bool)
    rises = (window[:, 1:] >= window[:, :-1]).all(1)
    last = _labels(window[:, -1], kind)
    same = _labels(window[:, 0], kind) == last
    if kind == "multi_label_classification":
        falls = (window[:, 1:] <= window[:, :-1]).all(1)
        return np.asarray((np.where(last, rises, falls) & same).all(-1))
    return np.asarray(np.take_along_axis(rises, last, 1)[:, 0] & same[:, 0])


def _range(window: Array, kind: str, tolerance: float) -> Array:
    watched = window.max(-1, keepdims=True) if kind == "single_label_classification" else window
    narrow = np.asarray((watched.max(1) - watched.min(1) <= tolerance).all(-1))
    return narrow if kind == "regression" else narrow & _agreement(window, kind, tolerance)


def _agreement(window: Array, kind: str, tolerance: float) -> Array:
    if kind == "regression":
        return np.asarray((np.abs(np.diff(window, axis=1)) <= tolerance).all((1, 2)))
    labels = _labels(window, kind)
    return np.asarray((labels == labels[:, -1:]).all((1, 2)))


_CRITERIA = {"monotone": _monotone, "range": _range, "agreement": _agreement}

# Name -> the rule and the settings it knows; one it does not know must not be ignored.
POLICIES: dict[str, tuple[Callable[[Policy, Array, Array, str], Array], set[str]]] = {
    "elbert": (_elbert, {"threshold", "window", "criterion", "tolerance"}),
    "entropy": (_by_entropy, {"threshold", "normalized"}),
    "max_prob": (_max_prob, {"threshold", "temperature"}),
    "patience": (_patience, {"patience", "tolerance"}),
    "fixed": (_depth, {"layer"}),
    "full": (_depth, set()),
}


def unknown_in(policy: Policy) -> str | None:
    """Return what of a policy this file does not know, or None."""
    name = policy["name"]
    if name not in POLICIES:
        return f"run.py does not know the exit policy {name!r}, only {', '.join(POLICIES)}"
    unknown = [key for key, value in policy.items() if key not in ("name", *POLICIES[name][1]) and value is not None]
    return f"run.py does not know the setting {unknown[0]!r} of exit policy {name!r}" if unknown else None


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


def _openvino(path: Path, outputs: list[str], dtype: str) -> Run:
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # or it reports every import
    ov = _import("openvino")
    core = ov.Core()
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
