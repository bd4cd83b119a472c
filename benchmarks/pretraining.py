"""Tokens per second of masked-word training: `elbert pretrain`'s loop beside transformers' Trainer.

    python benchmarks/pretraining.py --corpus wiki.txt.xz reviews.jsonl.gz

Both train the same ALBERT from random weights, in bf16 unless told otherwise, on sequences cut from the same corpus by
the same rule, with the same tokenizer and as many tokens a step on average. The Trainer has `AlbertForMaskedLM`, its
collator, fused AdamW, and transformers' own choice of attention; a data-loader process would only take a core from the
products, so on a CPU it has none. Two kinds of sequences: `full` (all as long as they may be, as when texts are joined
and cut into blocks) and `mixed` (sentences and passages), the latter once with the Trainer's batches as they come and
once with its grouping by length. A grouped run goes from long to short within fifty batches, so its timed batches are
spread evenly over fifty. Padding is not counted as tokens. Systems take turns; the best round counts. Prints a table,
then one JSON line.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import (
    AlbertForMaskedLM,
    AlbertForPreTraining,
    DataCollatorForLanguageModeling,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.trainer_pt_utils import get_length_grouped_indices

from elbert.evaluation.bench.machine import machine, versions
from elbert.modeling.quiet import quiet_transformers
from elbert.modeling.tokenizer import train_tokenizer
from elbert.pretraining import PretrainSettings
from elbert.pretraining.batches import Batcher
from elbert.pretraining.corpus import TokenCorpus, tokenize_corpus
from elbert.pretraining.loop import Loop
from elbert.pretraining.optimizer import MasterWeights
from elbert.pretraining.readers import read_documents
from elbert.pretraining.sequences import START, STOP
from elbert.pretraining.student import Student, student_config
from elbert.runs.precision import computes_bfloat16

# Steps before the clock starts: the first ones choose kernels and allocate.
WARM_UP = 2
# What the Trainer groups by length at a time, in batches.
GROUPED = 50
# The ways the Trainer's batches are drawn; sequences of one length need no grouping.
SAMPLING = {"full": ("random",), "mixed": ("random", "group_by_length")}

Measure = Callable[[], float]


class Clock:
    """Counts tokens and takes the time at the end of every step."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.times: list[float] = []

    def step(self) -> None:
        """A step is over."""
        self.times.append(time.perf_counter())

    def speed(self) -> float:
        """Return tokens per second after the warm-up."""
        tokens = self.tokens[WARM_UP : len(self.times)]
        return sum(tokens) / (self.times[-1] - self.times[WARM_UP - 1])


class Stepped(TrainerCallback):
    """Tells a clock that a step of the Trainer is over."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Tell the clock."""
        self.clock.step()


def read_corpus(paths: list[Path], vocabulary: int, documents: int) -> tuple[Any, TokenCorpus]:
    """Return a tokenizer trained on the first documents of each file, and those documents' tokens."""
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / "part.txt"
        taken = [next(reader, None) for reader in [read_documents(path) for path in paths] for _ in range(documents)]
        texts = ["\n".join(document) for document in taken if document]
        part.write_text("\n\n".join(texts), encoding="utf-8")
        tokenizer = train_tokenizer(texts, vocabulary)
        return tokenizer, tokenize_corpus([part], tokenizer)


def full_length(corpus: TokenCorpus, room: int) -> TokenCorpus:
    """Return the same tokens as documents of one sentence of `room` tokens each."""
    count = len(corpus.tokens) // room
    return TokenCorpus(corpus.tokens[: count * room], np.arange(count + 1) * room, np.arange(count + 1))


def measure_elbert(corpus: TokenCorpus, tokenizer: Any, settings: PretrainSettings, steps: int) -> float:
    """Return tokens per second of this project's loop."""
    torch.manual_seed(settings.seed)
    network = AlbertForPreTraining(student_config(settings, tokenizer, len(tokenizer)))
    student = Student(network, settings, None).to(device()).train()
    masters = MasterWeights(student, settings, getattr(torch, settings.dtype))
    batcher = Batcher(corpus, tokenizer, settings, settings.max_positions)
    documents = np.arange(1, len(corpus))
    loop = Loop(student, masters, batcher, documents, np.arange(1), settings)
    clock = Clock()

    def stepped() -> bool:
        if len(clock.times) < WARM_UP + steps:  # the loop asks once more after its last report
            clock.tokens.append(loop.progress.tokens - sum(clock.tokens))
            clock.step()
        return len(clock.times) >= WARM_UP + steps

    loop.run(lambda _: None, stop=stepped)
    return clock.speed()


def measure_trainer(
    corpus: TokenCorpus, tokenizer: Any, settings: PretrainSettings, steps: int, sampling: str
) -> float:
    """Return tokens per second of transformers' Trainer."""
    torch.manual_seed(settings.seed)
    plan = Batcher(corpus, tokenizer, settings, settings.max_positions).plan(np.arange(1, len(corpus)), epoch=0)
    lengths = plan.sequences[:, STOP] - plan.sequences[:, START] + 2
    rows = max(1, round(settings.batch_tokens / float(lengths.mean())))
    ends = [tokenizer.cls_token_id], [tokenizer.sep_token_id]
    order = trainer_order(lengths, rows, steps, sampling)
    texts = [[*ends[0], *corpus.tokens[row[START] : row[STOP]].tolist(), *ends[1]] for row in plan.sequences[order]]
    clock = Clock()
    clock.tokens = lengths[order].reshape(-1, rows).sum(axis=1).tolist()
    config = student_config(settings, tokenizer, len(tokenizer))
    with tempfile.TemporaryDirectory() as folder, quiet_transformers():
        arguments = TrainingArguments(
            folder,
            max_steps=WARM_UP + steps,
            per_device_train_batch_size=rows,
            train_sampling_strategy="sequential",  # `trainer_order` has drawn
            dataloader_num_workers=0 if device().type == "cpu" else 4,
            learning_rate=settings.learning_rate,
            bf16=settings.dtype == "bfloat16",
            use_cpu=device().type == "cpu",
            optim="adamw_torch_fused",
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            seed=settings.seed,
        )
        dataset: Any = [{"input_ids": ids} for ids in texts]
        trainer = Trainer(
            AlbertForMaskedLM(config),
            arguments,
            data_collator=DataCollatorForLanguageModeling(tokenizer, mlm_probability=settings.mask_fraction),
            train_dataset=dataset,
            callbacks=[Stepped(clock)],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return clock.speed()


def trainer_order(lengths: NDArray[np.int64], rows: int, steps: int, sampling: str) -> list[int]:
    """Return the sequences of a round in the order the Trainer would have them, warm-up first.

    Args:
        lengths: [S] tokens of each sequence.
        rows: sequences of a batch.
        steps: timed batches.
        sampling: `random` or `group_by_length`.

    Raises:
        SystemExit: there are too few sequences to group.
    """
    if sampling == "random":
        return torch.randperm(len(lengths)).tolist()[: (WARM_UP + steps) * rows]
    if len(lengths) < GROUPED * rows or steps > GROUPED:
        raise SystemExit(f"{len(lengths)} sequences are too few for {GROUPED} batches of {rows}: give more --documents")
    grouped = np.array(get_length_grouped_indices(lengths.tolist(), rows, GROUPED)[: GROUPED * rows])
    spread = ((np.arange(steps) + 0.5) * GROUPED / steps).astype(int)
    warm_up = np.linspace(0, GROUPED - 1, WARM_UP).astype(int)
    return grouped.reshape(GROUPED, rows)[[*warm_up, *spread]].flatten().tolist()


def device() -> torch.device:
    """Return where both systems compute."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def facts() -> dict[str, Any]:
    """Return what the numbers have to be read with."""
    return {"machine": machine(), "versions": versions(), "device": str(device()), "threads": torch.get_num_threads()}


def compare(
    kind: str, corpus: TokenCorpus, tokenizer: Any, settings: PretrainSettings, options: Any
) -> dict[str, list[float]]:
    """Return tokens per second of every system in every round."""
    systems: dict[str, Measure] = {
        "elbert pretrain": lambda: measure_elbert(corpus, tokenizer, settings, options.steps)
    }
    for sampling in SAMPLING[kind]:
        systems[f"transformers Trainer, {sampling}"] = lambda sampling=sampling: measure_trainer(
            corpus, tokenizer, settings, options.steps, sampling
        )
    speeds: dict[str, list[float]] = {name: [] for name in systems}
    for _ in range(options.rounds):
        for name, measure in systems.items():
            speeds[name].append(measure())
    return speeds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, nargs="+", required=True, help="text files, as `elbert pretrain` takes")
    parser.add_argument("--documents", type=int, default=300, help="read so many of each file")
    parser.add_argument("--vocabulary", type=int, default=16_000)
    parser.add_argument("--steps", type=int, default=3, help="timed steps of a round")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--dtype", default="bfloat16" if computes_bfloat16() else "float32")
    parser.add_argument("--kinds", nargs="+", choices=("full", "mixed"), default=["full", "mixed"])
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=NUMBER", help="other settings, such as layers=24")
    options = parser.parse_args()
    values: dict[str, Any] = {name: int(number) for name, number in (word.split("=") for word in options.set)}
    values |= {"max_length": options.max_length, "batch_tokens": options.batch_tokens, "dtype": options.dtype}
    settings = PretrainSettings.from_dict(
        {"sentence_order": 0.0, "single_sentences": 0.5, "epochs": 1e9, "checkpoint_minutes": 1e9} | values
    )
    tokenizer, corpus = read_corpus(options.corpus, options.vocabulary, options.documents)
    kinds = {"full": lambda: full_length(corpus, options.max_length - 2), "mixed": lambda: corpus}
    print(f"{'sequences':<10}{'system':<40}{'tokens/s':>10}{'ratio':>8}")
    rows = []
    for kind in options.kinds:
        speeds = compare(kind, kinds[kind](), tokenizer, settings, options)
        best = {name: max(found) for name, found in speeds.items()}
        for name, speed in best.items():
            ratio = best["elbert pretrain"] / speed
            print(f"{kind:<10}{name:<40}{speed:>10.0f}{ratio:>7.2f}x", flush=True)
            rows.append({"sequences": kind, "system": name, "tokens_per_second": speed, "rounds": speeds[name]})
    about = {**facts(), "vocabulary": len(tokenizer), "settings": settings.to_dict()}
    print(json.dumps({"benchmark": "pretraining", **about, "rows": rows}))


if __name__ == "__main__":
    main()
