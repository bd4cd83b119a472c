"""What people pick first: logistic regression on TF-IDF of words, of words and characters, or on an encoder's vectors.

Fits, writes arrays and JSON (nothing pickled), reads them back, and answers in a race as the systems `tfidf` and
`frozen`: a folder written here is a model folder to them.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from scipy.sparse import hstack
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from transformers import AutoModel

from elbert.data import Text
from elbert.engine.engine import SORTING_WINDOW, by_length
from elbert.engine.placement import most_tokens
from elbert.evaluation.bench.batches import held, in_batches, read, reader_of
from elbert.evaluation.bench.job import Answers, Job, Run, Spec
from elbert.evaluation.bench.systems import SYSTEMS, Kind
from elbert.tasks import task_of

Array = NDArray[Any]

# What scikit-learn is told beside its defaults; `sublinear_tf` is what its own guide advises for texts.
WORDS: dict[str, Any] = {"ngram_range": (1, 2), "sublinear_tf": True}
CHARACTERS: dict[str, Any] = {"analyzer": "char_wb", "ngram_range": (2, 5), "sublinear_tf": True, "min_df": 2}

# Inverse penalties tried on the rows held out, weakest first: each fit goes on from the one before.
PENALTIES = (1.0, 10.0, 100.0)

_ARRAYS, _ABOUT = "linear.safetensors", "linear.json"

SYSTEMS.setdefault("tfidf", Kind(__name__, "scikit-learn: TfidfVectorizer, then one product"))
SYSTEMS.setdefault(
    "frozen", Kind(__name__, "transformers in fp32 on sorted padded batches, mean over tokens, one product")
)


@dataclass(frozen=True)
class Linear:
    """A linear model and what it reads.

    Attributes:
        weight: [K, C].
        bias: [C].
        vectorizers: scikit-learn's, side by side; none where `encoder` makes the vectors.
        encoder: folder of the frozen encoder, or "".
    """

    weight: Array
    bias: Array
    vectorizers: tuple[TfidfVectorizer, ...] = ()
    encoder: str = ""

    def logits(self, texts: Sequence[Text]) -> Array:
        """Return [N, C] of texts, by TF-IDF."""
        return np.asarray(tfidf(self.vectorizers, texts) @ self.weight + self.bias)

    def write(self, folder: Path) -> None:
        """Write the folder that `Linear.read` reads."""
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {"weight": self.weight.astype(np.float32), "bias": self.bias.astype(np.float32)}
        about: dict[str, Any] = {"encoder": self.encoder, "vectorizers": []}
        for number, each in enumerate(self.vectorizers):
            arrays[f"idf-{number}"] = each.idf_.astype(np.float32)
            settings = {name: getattr(each, name) for name in ("analyzer", "ngram_range", "sublinear_tf")}
            about["vectorizers"].append({"settings": settings, "terms": each.get_feature_names_out().tolist()})
        save_file(arrays, folder / _ARRAYS)
        (folder / _ABOUT).write_text(json.dumps(about, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Linear:
        """Return the model that `write` wrote."""
        arrays = load_file(folder / _ARRAYS)
        about = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
        vectorizers = []
        for number, each in enumerate(about["vectorizers"]):
            settings = {**each["settings"], "ngram_range": tuple(each["settings"]["ngram_range"])}
            vectorizer = TfidfVectorizer(**settings, vocabulary=each["terms"], dtype=np.float32)
            vectorizer.idf_ = arrays[f"idf-{number}"]
            vectorizers.append(vectorizer)
        return cls(arrays["weight"], arrays["bias"], tuple(vectorizers), about["encoder"])


def joined(texts: Sequence[Text]) -> list[str]:
    """Return texts as a bag reads them: a pair is one text behind the other."""
    return [text if isinstance(text, str) else " ".join(text) for text in texts]


def vectorizers_of(settings: Sequence[dict[str, Any]], texts: Sequence[Text]) -> tuple[TfidfVectorizer, ...]:
    """Return vectorizers that know these texts' terms."""
    return tuple(TfidfVectorizer(**each, dtype=np.float32).fit(joined(texts)) for each in settings)


def tfidf(vectorizers: Sequence[TfidfVectorizer], texts: Sequence[Text]) -> Any:
    """Return the sparse vectors [N, K] of texts."""
    parts = [each.transform(joined(texts)) for each in vectorizers]
    return parts[0] if len(parts) == 1 else hstack(parts, format="csr")


class Encoder:
    """A frozen encoder whose texts are the means over their tokens' last states, of length 1."""

    def __init__(self, folder: Path) -> None:
        self._model = AutoModel.from_pretrained(folder, local_files_only=True, trust_remote_code=False).eval()

    @torch.no_grad()
    def __call__(self, feeds: dict[str, Array]) -> Array:
        """Return [rows, H]."""
        tensors = {name: torch.from_numpy(value) for name, value in feeds.items()}
        mask = tensors["attention_mask"][..., None].float()
        mean = (self._model(**tensors).last_hidden_state * mask).sum(1) / mask.sum(1)
        return np.asarray(torch.nn.functional.normalize(mean, dim=-1).numpy())


def vectors(job: Job, texts: Sequence[Text], batch: int = 32) -> Array:
    """Return [N, H] of texts by the encoder in `job.folder`."""
    encoder, reader = Encoder(job.folder), reader_of(job)
    most = most_tokens(torch.device("cpu"), torch.float32)
    rows, order = [], []
    for block in held(by_length(reader.rows(texts), SORTING_WINDOW * batch), batch, most):
        rows.append(encoder(reader.feeds(block)))
        order += [row.index for row in block]
    found = np.empty((len(texts), rows[0].shape[1]), np.float32)
    found[order] = np.concatenate(rows)
    return found


@dataclass(frozen=True)
class Fitted:
    """Logistic regressions of two fits.

    Attributes:
        penalty: the inverse penalty that scored best on the rows held out.
        learnt: (weight, bias) fitted on the rows learnt from alone.
        whole: the same penalty on all rows.
    """

    penalty: float
    learnt: tuple[Array, Array]
    whole: tuple[Array, Array]


def fit(values: Any, targets: Array, held_out: Array, classes: int, score: Any) -> Fitted:
    """Choose the penalty on rows held out, then fit on all rows.

    Args:
        values: [N, K] of all training rows.
        targets: [N] class ids, or [N, C] of 0 and 1.
        held_out: which rows are held out, [N] bool.
        classes: C.
        score: takes logits [n, C] of the rows held out, and says how good they are.
    """
    learn = np.flatnonzero(~held_out)
    model = _Regressions(targets.ndim == 2, classes)
    tried = []
    for penalty in PENALTIES:
        pair = model.fit(values[learn], targets[learn], penalty)
        tried.append((score(values[np.flatnonzero(held_out)] @ pair[0] + pair[1]), penalty, pair))
    _, penalty, learnt = max(tried, key=lambda each: each[0])  # of equals the strongest penalty
    return Fitted(penalty, learnt, model.fit(values, targets, penalty))


class _Regressions:
    """One softmax, or a sigmoid per label; every fit goes on from the last weights."""

    def __init__(self, each_label: bool, classes: int) -> None:
        self._classes = classes
        settings: dict[str, Any] = {"solver": "saga", "max_iter": 100, "random_state": 0, "warm_start": True}
        self._models = [LogisticRegression(**settings) for _ in range(classes if each_label else 1)]
        self._each_label = each_label

    def fit(self, values: Any, targets: Array, penalty: float) -> tuple[Array, Array]:
        """Return (weight [K, C], bias [C])."""
        weight, bias = np.zeros((values.shape[1], self._classes)), np.full(self._classes, -20.0)
        for number, model in enumerate(self._models):
            wanted = targets[:, number] >= 0.5 if self._each_label else targets
            if len(np.unique(wanted)) < 2:
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # a hundred passes are enough, settled or not
                model.set_params(C=penalty).fit(values, wanted)
            # Of two classes scikit-learn keeps the second's side only.
            shown = [number] if self._each_label else model.classes_[-len(model.coef_) :]
            weight[:, shown], bias[shown] = model.coef_.T, model.intercept_
            if not self._each_label and len(model.coef_) == 1:
                bias[model.classes_[0]] = 0.0
        return weight, bias


def load(job: Job, spec: Spec) -> Run:
    """Return a linear model as a system."""
    linear = Linear.read(job.folder)
    if linear.encoder:
        encoder = Encoder(Path(linear.encoder))
        return in_batches(
            replace(job, folder=Path(linear.encoder)), spec, lambda feeds: encoder(feeds) @ linear.weight + linear.bias
        )

    def run(texts: Sequence[Text], batch: int) -> Answers:
        del batch  # scikit-learn takes all it is given
        return Answers(read(linear.logits(texts), job.problem_type))

    return run


def confidence(logits: Array, problem_type: Any) -> Array:
    """Return how sure a linear model is of each text, [N], from its logits."""
    task = task_of(problem_type)
    return np.asarray(task.confidence(task.probabilities(logits)))
