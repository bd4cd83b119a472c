"""The one object a user holds: texts in, predictions out.

Joins tokenizer, engine, policies and the model folder. Runs no layer itself, trains nothing.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from elbert.calibration.finding import PolicyFinder
from elbert.calibration.keeping import PolicyLike
from elbert.data import Labels, Text, TextDataset, labelled, load_data
from elbert.data.dataset import of_its_kind, spread_over
from elbert.data.source import fingerprint, short_name, sketch
from elbert.engine import Engine
from elbert.engine.backends.backend import choose_backend
from elbert.engine.dropping import why_all_tokens_stay
from elbert.engine.imitating import fit_token_score
from elbert.engine.layer_zero import seconds_of_words
from elbert.engine.placement import DTYPES, choose_device, choose_dtype
from elbert.engine.requests import Arrival
from elbert.engine.tokens import Reading, arrivals, readings
from elbert.errors import DataError, ModelError, UsageError
from elbert.exits import ExitPolicy, make
from elbert.exits.gates import SkipGates
from elbert.exits.tokens import TokenSchedule
from elbert.metadata import DataRecord, Metadata
from elbert.modeling.digest import weights_digest
from elbert.modeling.files.exported import ExportedModel
from elbert.modeling.files.open import open_model
from elbert.modeling.files.plain import PlainModel
from elbert.modeling.files.plain_tokenizer import PlainTokenizer
from elbert.modeling.files.policies import Tensors, saved_policies, write_policies
from elbert.modeling.files.sources import find_folder
from elbert.predictor import Predictor
from elbert.results import LayerOutputs, Prediction, ProblemType, Trace
from elbert.scoring.curves import LayerZeroCost, uncounted
from elbert.tasks import task_of
from elbert.tracing.text import trace_text
from elbert.words import WordModel

if TYPE_CHECKING:
    from elbert.modeling.model import MultiExitModel

_TEXTS_FOR_A_COST = 256  # that tell what layer 0 costs


class Classifier(Predictor, PolicyFinder):
    """A text classifier whose texts leave at the first layer that is sure of them.

    Attributes:
        labels: the label space, with the names as they stood in the training data.
        num_layers: layers of the encoder, M.
        max_length: tokens read of a text; the rest is cut off and `Prediction.truncated` says so.
        policy: the exit policy used where a call names none.
        policies: policies saved with the model, by name.
        calibration: evidence of those that were calibrated, by name.
        backend, dtype, device: what computes, as plain names.
        metadata: what `elbert.json` says of the model.
        engine: runs the layers; holds what an `elbert.engine.Scheduler` takes.
    """

    def __init__(
        self,
        model: MultiExitModel | ExportedModel | PlainModel,
        tokenizer: Any,
        elbert: dict[str, Any] | None = None,
        *,
        name: str = "",
        backend: str = "auto",
        device: str = "auto",
        dtype: str = "auto",
        policy: PolicyLike = None,
        problem_type: str | None = None,
        tensors: Tensors | None = None,
        words: WordModel | None = None,
    ) -> None:
        exported = model if isinstance(model, ExportedModel) else None
        self.backend = choose_backend(backend, exported.backend if exported else None)
        self._model = model
        self.metadata = replace(Metadata.from_dict(elbert or {}), pair_token_types=model.pair_token_types)
        self.name = name
        self.device = choose_device("cpu" if device == "auto" and self.backend != "torch" else device)
        self.dtype = choose_dtype(exported.dtype if exported and dtype == "auto" else dtype, self.device)
        weights = model.weights().read_as(problem_type or self.metadata.problem_type)
        if problem_type is not None:
            self.metadata = replace(self.metadata, problem_type=weights.problem_type)
        self._digest = weights_digest(weights)  # now: the engine lays them out as it needs them
        self._num_outputs, self._hidden_size = weights.num_labels, weights.hidden_size
        self._tokenizer = PlainTokenizer.of(
            tokenizer,
            entries=weights.embedding.word.shape[0],
            token_types=model.pair_token_types,
            where=name or "the model",
        )
        self.num_layers: int = weights.num_layers
        self.problem_type: ProblemType = weights.problem_type
        self.task = task_of(self.problem_type)
        self.labels = Labels.from_id2label(weights.id2label, self.problem_type)
        self.calibration: dict[str, Any] = dict(self.metadata.calibration)
        self.max_length = min(self.metadata.max_length or weights.max_length, weights.max_length)
        self.policy: ExitPolicy = make("full")
        try:
            self.policies = saved_policies(self.metadata.policies, tensors or {})
            self.policies = {key: self.equip(each) for key, each in self.policies.items()}
            default = self.metadata.default_policy
            self.policy = self.resolve(default)
        except UsageError as error:
            raise ModelError(f"{name or 'the model'}: elbert.json: {error}") from None
        self._compared: set[str] = set()
        chosen = default if policy is None else policy
        self.policy = self.resolve(chosen)
        self.engine = Engine(
            weights,
            dtype=DTYPES[self.dtype],
            device=self.device,
            backend=self.backend,
            graphs=exported.graphs if exported else None,
            words=words,
        )
        if isinstance(model, PlainModel):
            self._model = replace(model, encoder=self.engine.weights)  # the engine has laid the matrices out anew
        self.exit_policy(chosen)  # warns: only now that nothing is refused any more

    @property
    def weights_digest(self) -> str | None:
        """16 hexadecimal digits that differ where the weights do; None for an exported model."""
        return self._digest

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        *,
        backend: str = "auto",
        device: str = "auto",
        dtype: str = "auto",
        policy: PolicyLike = None,
        problem_type: str | None = None,
    ) -> Classifier:
        """Load a trained classifier.

        Args:
            model: a model folder, a hub id, or the name of a bundled checkpoint; or what `elbert export` wrote.
            backend: "auto" (torch; for an exported model the one it was exported for), "torch", "openvino" or
                "onnxruntime"; the last two run on a CPU.
            device: "auto" (CUDA where there is one and the backend is torch), "cpu", "cuda", "cuda:1", …
            dtype: "auto" (float32 on a CPU, bfloat16 on CUDA), "float32", "bfloat16" (not onnxruntime), "int8" (torch
                on a CPU with AVX2), or "float16" (CUDA only).
            policy: an `ExitPolicy`, its name, its dict, or the name of a policy saved with the model; None takes the
                model's default, or full depth where the model has none.
            problem_type: how to read the logits, where the model's configuration says nothing or what is wrong: many a
                multi-label model calls itself nothing at all. Saved with the model's policies.

        Raises:
            UsageError: an unknown model, backend, device, dtype or policy.
            ModelError: the folder's content is unusable.
        """
        where: Any = {"backend": backend, "device": device, "dtype": dtype}
        return cls(
            **open_model(str(model))._asdict(), name=str(model), policy=policy, problem_type=problem_type, **where
        )

    @classmethod
    def fit(
        cls,
        texts: Iterable[Text],
        labels: Iterable[Any],
        *,
        model: str | Path | None = None,
        out: str | Path | None = None,
        problem_type: ProblemType | None = None,
        **settings: Any,
    ) -> Classifier:
        """Fine-tune a model on texts and labels; `elbert.train` does the same with files, a dev set and resuming.

        Args:
            texts: strings or pairs, as many as there are labels.
            labels: names, ids or numbers; for multi-label lists of them.
            model: a folder, hub id, bundled checkpoint or random-… shape to start from; None takes the bundled one.
            out: the model folder to be; None keeps the model in memory alone.
            problem_type: where the labels' looks say otherwise.
            settings: fields of `TrainSettings`: epochs, batch_size, seed, …

        Returns:
            The classifier, with ELBERT's rule as its policy until it is calibrated.

        Raises:
            UsageError: an unknown model or setting, or `out` is taken.
            DataError: nothing can be learnt from the data.
        """
        from elbert.training import TrainSettings, default_model, start_model, train

        rows = load_data(labelled(texts, labels), problem_type=problem_type)
        chosen = TrainSettings.from_dict(settings)
        name = default_model() if model is None else model
        start, tokenizer = start_model(name, rows, chosen)
        with tempfile.TemporaryDirectory() as parent:
            folder = Path(parent) / "model" if out is None else Path(out)
            train(start, tokenizer, rows, None, chosen, folder, progress=False, model_name=str(name))
            return cls(**open_model(folder)._asdict(), name="" if out is None else str(out))

    @property
    def model(self) -> MultiExitModel | ExportedModel:
        """The weights that answer, as modules for training and saving; made on first use, as running needs none."""
        if isinstance(self._model, PlainModel):
            self._model = self._model.modules()
            if weights_digest(self._model.weights()) != self._digest:
                raise ModelError(f"{self.name}: its files were written over since it was loaded: load it again")
        self._model.config.problem_type = self.problem_type
        return self._model

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer, as transformers' own; free to be called, as `predict` has its own."""
        return self._tokenizer.to_transformers()

    def _answers(
        self, texts: Iterable[Text], policy: PolicyLike, batch_size: int
    ) -> Iterator[tuple[Prediction, list[float]]]:
        """Yield predictions, each with its probabilities, in input order."""
        chosen = self.exit_policy(policy)
        truncated: dict[int, bool] = {}
        departures = self.engine.run(self.arrivals(texts, truncated), chosen, batch_size=batch_size)
        waiting: dict[int, tuple[Prediction, list[float]]] = {}
        following = 0
        for group in departures:
            columns = (group.index.tolist(), group.exit_layer.tolist(), group.probs.tolist())
            answers = self.task.answers(group.probs, self.labels.names)
            for index, layer, probs, (label, score) in zip(*columns, answers, strict=True):
                prediction = Prediction(label, score, layer, self.num_layers, truncated.pop(index))
                waiting[index] = prediction, probs
            while following in waiting:
                yield waiting.pop(following)
                following += 1

    def record(
        self,
        texts: Iterable[Text],
        *,
        batch_size: int = 32,
        pooled: bool = False,
        tokens: TokenSchedule | None = None,
        gates: SkipGates | None = None,
        on_texts: Callable[[int], object] | None = None,
    ) -> LayerOutputs:
        """Run every text to full depth and return what every exit said, for replay, sweeps and calibration.

        Args:
            texts: strings or pairs.
            batch_size: texts in flight together, >= 1.
            pooled: keep the pooled states too, for learned policies.
            tokens: how many tokens a text keeps behind each layer; None for all.
            gates: which layers a text skips; None for none.
            on_texts: called with a count of texts whenever so many more are through, for a progress bar.

        Raises:
            UsageError: `batch_size` is no whole number of 1 or more, something given is no text, or tokens can't be
                dropped here.
        """
        arrived = list(self.arrivals(texts, {}))
        whole = self.equip(make("full", tokens=tokens, gates=gates))
        parts: dict[str, Any] = {"tokens": whole.tokens, "gates": whole.gates}
        told = on_texts or (lambda _: None)
        return self.engine.record(arrived, batch_size=batch_size, pooled=pooled, on_texts=told, **parts)

    @property
    def words(self) -> WordModel | None:
        """Layer 0, what a bag of the text's words says before the first layer; None where the model has none."""
        return self.engine.words

    def layer_0_cost(self, texts: Sequence[Text], *, batch_size: int = 32) -> LayerZeroCost:
        """Measure what layer 0 takes of a text, and return what it adds to a policy's mean exit layer.

        It is what `evaluate` counts; sweeps, calibrations and reports take it from here.

        Args:
            texts: of which up to 256, spread evenly, run once at full depth; none where the model has no layer 0.
            batch_size: texts in flight together.
        """
        words, some = self.words, spread_over(texts, _TEXTS_FOR_A_COST)
        if words is None or not some:
            return uncounted

        def seconds(part: Sequence[Text]) -> float:
            begun = time.perf_counter()
            for _ in self.stream(part, policy=make("full"), batch_size=batch_size):
                pass
            return time.perf_counter() - begun

        seconds(some[: 2 * batch_size])  # warm-up: first calls allocate and choose kernels
        cost = seconds_of_words(words, list(self.arrivals(some, {}))) / seconds(some) * self.num_layers
        return lambda policy: cost if words.asked(policy.words) else 0.0

    def fit_words(self, texts: Iterable[Text] | TextDataset, labels: Sequence[Any] | None = None) -> None:
        """Fit layer 0 for a model that has none; `calibrate` then tries its thresholds too.

        Args:
            texts: those the model was trained on, or others like them, but none to calibrate on; or a `TextDataset`.
            labels: names or ids.

        Raises:
            UsageError: the model has a layer 0, or its answers are values.
            DataError: there are no labels.
            MissingExtraError: scikit-learn is not installed.
        """
        if self.words is not None:
            raise UsageError(
                f"model {self.name!r} has a layer 0 already; allowed: texts to fit one on for a model that has none: "
                "leave them (--words) away, and calibrate tries the one it has"
            )
        if not self.labels.names:
            raise UsageError(f"model {self.name!r} answers with values; layer 0 tells classes apart")
        dataset = TextDataset.of(texts, labels, self.labels)
        if dataset.labels is None:
            raise DataError(f"{dataset.name}: no labels; layer 0 is fitted on labelled texts")
        from elbert.words.fit import REACH, fit_words

        arrived = arrivals(self._of_its_kind(dataset.texts), self._tokenizer, self.max_length, {}, reach=REACH)
        ids = [arrival.read_by_words for arrival in sorted(arrived, key=lambda arrival: arrival.index)]
        self.engine.words = fit_words(ids, np.asarray(dataset.labels), self._num_outputs)
        name, sha256 = short_name(dataset.name), fingerprint(dataset.texts, dataset.labels)
        record = DataRecord(name, len(dataset), sha256[:16], sketch(dataset.texts))
        self.metadata = replace(self.metadata, words=asdict(record))

    def fit_tokens(self, texts: Iterable[Text], tokens: TokenSchedule | dict[str, Any]) -> TokenSchedule:
        """Return a length schedule whose score is learned: it foretells which tokens later layers will look at.

        Make a policy with it, and `keep` that.

        Args:
            texts: some hundred, without labels.
            tokens: the schedule, such as `{"3": 0.5}`.

        Raises:
            UsageError: the schedule is none, or this model can't drop tokens.
        """
        given = tokens if isinstance(tokens, TokenSchedule) else TokenSchedule.from_dict(tokens)
        given.check_fits(self.num_layers)
        reason = why_all_tokens_stay(self.engine.weights, self.engine.backend)
        if reason is not None:
            raise UsageError(f"model {self.name!r} can't drop tokens: {reason}")
        weights = fit_token_score(self.engine.layers(), self.arrivals(texts, {}))
        return replace(given, score="learned").with_weights(weights)

    def trace(self, text: Text, *, policy: PolicyLike = None) -> Trace:
        """Show, layer by layer, what the exits said of one text, what the policy made of it, what [CLS] attended to."""
        return self.traced(self.reading(text), self.exit_policy(policy))

    def reading(self, text: Text) -> Reading:
        """Tokenise a text that is to be `traced`: a server does it elsewhere than where layers run.

        Raises:
            UsageError: it is no text, or the model cannot be traced.
        """
        if isinstance(self._model, ExportedModel):
            self._model.refuse("traced")  # attention is worked out from the weights
        return next(readings(self._of_its_kind([text]), self._tokenizer, self.max_length, reach=self._reach))

    def traced(self, reading: Reading, chosen: ExitPolicy) -> Trace:
        """Return the trace of a text that `reading` has tokenised, under a policy."""
        return trace_text(self.engine, self._tokenizer, reading, chosen, self.labels.names)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write an ordinary Hugging Face checkpoint plus `elbert.json`; an existing folder is replaced as a whole."""
        content, tensors = self._elbert_json(), self._tensors()
        self.model.save_pretrained(Path(folder), self.tokenizer, content, tensors=tensors, words=self.words)

    def save_policies(self, folder: str | Path) -> None:
        """Write policies, evidence, default and layer 0 into the folder the model was loaded from, or a copy of it.

        The weights are left as they are, which `save_pretrained` writes anew; so exported models keep what was
        calibrated on them too.

        Args:
            folder: the model's own, or one to be; an existing one is replaced as a whole.

        Raises:
            UsageError: the model was made in code, so there is no folder to write beside.
            ElbertError: the disk is full, or does not let us write.
        """
        from elbert.training.card import with_exits

        content, tensors = self._elbert_json(), self._tensors()
        write_policies(find_folder(self.name), Path(folder), content, tensors, with_exits, self.words)

    def push_to_hub(self, repo_id: str, *, private: bool | None = None, commit_message: str | None = None) -> str:
        """Upload the model folder to the Hugging Face hub and return its address there.

        Args:
            repo_id: `user/name`; made if it does not exist.
            private: for a repository that has to be made; None leaves it to the account's setting.
            commit_message: what to write in the hub's history.
        """
        from huggingface_hub import HfApi

        api = HfApi()
        repository = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        with tempfile.TemporaryDirectory() as parent:
            folder = Path(parent) / "model"
            self.save_pretrained(folder)
            message = commit_message or "Upload an ELBERT classifier"
            return str(api.upload_folder(repo_id=repository, folder_path=folder, commit_message=message))

    def arrivals(self, texts: Iterable[Text], truncated: dict[int, bool]) -> Iterator[Arrival]:
        """Tokenise texts for a scheduler of one's own; `predict` and all others do it themselves.

        Args:
            texts: strings or pairs.
            truncated: filled by the place of the text: whether its end was cut off.

        Raises:
            UsageError: something given is no text.

        Warns:
            DataWarning: pairs of texts, where the model learnt from single ones, or the reverse.
        """
        return arrivals(self._of_its_kind(texts), self._tokenizer, self.max_length, truncated, reach=self._reach)

    def _of_its_kind(self, texts: Iterable[Text]) -> Iterator[Text]:
        return of_its_kind(texts, self.metadata.pairs, self.name or "the model")

    @property
    def _reach(self) -> int:
        """Tokens that layer 0 reads of a text, where those may be more than the encoder reads."""
        return 0 if self.words is None else self.words.reach
