"""From a request to a finished folder: check, tokenise, start or resume, train, export."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AlbertForPreTraining, AutoTokenizer

from elbert.disk import FREE_SPACE, write_errors
from elbert.errors import UsageError
from elbert.modeling.tokenizer import train_tokenizer
from elbert.pretraining import folder as files
from elbert.pretraining.batches import Batcher
from elbert.pretraining.corpus import TokenCorpus, split_documents, tokenize_corpus
from elbert.pretraining.earlier import Earlier, load_earlier
from elbert.pretraining.loop import Loop
from elbert.pretraining.optimizer import MasterWeights
from elbert.pretraining.progress import PretrainSummary, Report
from elbert.pretraining.readers import check_corpus, read_documents
from elbert.pretraining.settings import PretrainSettings
from elbert.pretraining.start import start_student
from elbert.pretraining.student import Student, student_config
from elbert.pretraining.teacher import Teacher, load_teacher
from elbert.runs.callbacks import Interruption, TrainingInterruptedError
from elbert.runs.folder import RunFolder, check_free, open_run, run_folder
from elbert.runs.precision import choose_dtype

# A vocabulary needs no more text than this; more only takes longer.
TOKENIZER_DOCUMENTS = 50_000


@dataclass(frozen=True, slots=True, eq=False)
class Sources:
    """What a run learns from and begins with.

    Attributes:
        corpus: text files; one named twice counts twice.
        teacher: the encoder to learn from.
        earlier: the ALBERT to go on with.
    """

    corpus: tuple[Path, ...]
    teacher: Teacher | None
    earlier: Earlier | None


def pretrain(
    corpus: Iterable[str | Path],
    out: str | Path,
    settings: PretrainSettings | None = None,
    *,
    teacher: str | None = None,
    start: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    on_report: Callable[[Report], None] | None = None,
    show_progress: bool | None = False,
) -> PretrainSummary:
    """Pretrain an ALBERT on plain text; its folder appears at `out` when it is whole.

    Args:
        corpus: `.txt` or `.jsonl` files, also `.gz` and `.xz`; one named twice counts twice.
        out: the folder to be; until then `out` + `.partial`.
        settings: everything else; by default ALBERT's own objectives, or with a teacher distillation alone.
        teacher: folder, hub id or bundled name of an encoder to learn from.
        start: folder, hub id or bundled name of an ALBERT to go on with; shape and tokenizer are then its.
        resume: go on with the unfinished run at `out` + `.partial`.
        overwrite: throw away an unfinished run, and replace what is at `out` once the new encoder is whole.
        on_report: called with every report, at least every `checkpoint_minutes`.
        show_progress: a bar on stderr; None for one where stderr is a terminal.

    Raises:
        UsageError: a file, model, folder or setting that cannot be used.
        DataError: a corpus that is broken or holds too little.
        ModelError: a teacher or an earlier model that cannot be read.
        TrainingInterruptedError: a signal came; the message says how to go on.
    """
    settings = settings or PretrainSettings.from_dict({}, teacher=teacher is not None)
    paths = tuple(Path(path) for path in corpus)
    _check(paths, settings, teacher)
    check_free(run_folder(Path(out)), resume=resume, overwrite=overwrite)  # before anything slow
    settings = dataclasses.replace(settings, dtype=choose_dtype(settings.dtype))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    sources = Sources(
        paths,
        load_teacher(teacher, getattr(torch, settings.dtype), device) if teacher else None,
        load_earlier(start, settings.dropout) if start else None,
    )
    settings = _fit(settings, sources)
    record = _record(settings, paths, teacher, start)
    run = open_run(Path(out), record, settings.defaults(), resume=resume, overwrite=overwrite)
    try:
        return _run(run, record, settings, sources, device, on_report or (lambda _: None), show_progress)
    except BaseException:
        if not (run.partial / files.CHECKPOINT).is_file():
            shutil.rmtree(run.partial, ignore_errors=True)  # a request that failed at once leaves no trace
        raise


def _run(
    run: RunFolder,
    record: dict[str, Any],
    settings: PretrainSettings,
    sources: Sources,
    device: torch.device,
    on_report: Callable[[Report], None],
    show_progress: bool | None,
) -> PretrainSummary:
    """Train from the start or the checkpoint, ready for signals, and finish the folder."""
    tokenizer, tokens = _prepare(run.partial, settings, sources, show_progress)
    student = _student(settings, sources, tokenizer, tokens).to(device)
    masters = MasterWeights(student, settings, getattr(torch, settings.dtype))
    positions = min(settings.max_positions, sources.teacher.positions if sources.teacher else settings.max_positions)
    batcher = Batcher(tokens, tokenizer, settings, positions)
    loop = Loop(student, masters, batcher, *split_documents(tokens, settings.held_out_tokens, settings.seed), settings)
    if (run.partial / files.CHECKPOINT).is_file():
        tensors, loop.progress = files.load_checkpoint(run.partial)
        masters.restore(tensors)
    reports: list[Report] = []

    def keep(report: Report) -> None:
        with write_errors(f"the checkpoint in {run.partial}", FREE_SPACE):
            files.save_checkpoint(run.partial, masters.state(), report.progress)
            files.log_report(run.partial, report)
        reports[:] = [report]
        on_report(report)

    with Interruption(0, str(run.partial)) as interruption:
        finished = loop.run(keep, stop=lambda: interruption.asked is not None, show_progress=show_progress)
    if interruption.asked is not None and not finished:
        told = f"stopped; everything is saved in {run.partial}; go on with --resume"
        raise TrainingInterruptedError(told, interruption.asked)
    summary = _summary(run.out, reports[0], student)
    _finish(run, student, masters, tokenizer, {**record, "summary": summary.to_dict() | {"out": run.out.name}})
    return summary


def _check(paths: tuple[Path, ...], settings: PretrainSettings, teacher: str | None) -> None:
    if not paths:
        raise UsageError("there is no corpus; name at least one text file")
    for path in paths:
        check_corpus(path)
    if settings.distillation and not teacher:
        raise UsageError("distillation needs a teacher; give --teacher, or set distillation to 0")
    if teacher and not settings.distillation:
        raise UsageError(f"teacher {teacher!r} is given and distillation is 0; set it to 1, or leave out the teacher")


def _fit(settings: PretrainSettings, sources: Sources) -> PretrainSettings:
    """Return the settings as the teacher and the earlier model allow them."""
    teacher, earlier = sources.teacher, sources.earlier
    if earlier:
        settings = earlier.shape(settings)
    if teacher and settings.max_length > teacher.positions:
        raise UsageError(f"max_length is {settings.max_length}; {teacher.name} reads at most {teacher.positions}")
    if teacher and earlier and teacher.tokenizer.get_vocab() != earlier.tokenizer.get_vocab():
        raise UsageError(f"teacher {teacher.name} and the model to start from have different vocabularies")
    return settings


def _record(
    settings: PretrainSettings, corpus: tuple[Path, ...], teacher: str | None, start: str | None
) -> dict[str, Any]:
    """Return what the run is decided by; a resumed run must be asked for the same."""
    decisive = {name: value for name, value in settings.to_dict().items() if name != "checkpoint_minutes"}
    return {
        "corpus": [path.name for path in corpus],
        "teacher": _public(teacher),
        "start": _public(start),
        "settings": decisive,
    }


def _public(name: str | None) -> str | None:
    """Return what a model is called, without where it lies on this machine."""
    return Path(name).resolve().name if name and Path(name).is_dir() else name


def _prepare(
    folder: Path, settings: PretrainSettings, sources: Sources, show_progress: bool | None
) -> tuple[Any, TokenCorpus]:
    """Return tokenizer and tokens; from the run's folder, where an earlier part of the run left them."""
    stored = folder / files.CORPUS
    if stored.is_file():
        return AutoTokenizer.from_pretrained(folder, local_files_only=True), TokenCorpus.load(stored)
    if sources.teacher:
        tokenizer = sources.teacher.tokenizer
    elif sources.earlier:
        tokenizer = sources.earlier.tokenizer
    else:
        documents = chain.from_iterable(read_documents(path) for path in sources.corpus)
        sentences = list(chain.from_iterable(islice(documents, TOKENIZER_DOCUMENTS)))
        tokenizer = train_tokenizer(sentences, settings.vocabulary, max_length=settings.max_positions)
    tokens = tokenize_corpus(sources.corpus, tokenizer, show_progress=show_progress)
    with write_errors(f"the corpus in {folder}", FREE_SPACE):
        tokenizer.save_pretrained(folder)
        tokens.save(stored)
    return tokenizer, tokens


def _student(settings: PretrainSettings, sources: Sources, tokenizer: Any, tokens: TokenCorpus) -> Student:
    """Return the network as the run begins with it."""
    torch.manual_seed(settings.seed)
    teacher, earlier = sources.teacher, sources.earlier
    if earlier:
        return Student(earlier.network, settings, teacher).train()
    words = len(teacher.embedding.word) if teacher else len(tokenizer)
    student = Student(AlbertForPreTraining(student_config(settings, tokenizer, words)), settings, teacher)
    if teacher:
        counts = np.bincount(tokens.tokens, minlength=words)
        start_student(student.encoder, teacher, settings.teacher_layer, torch.from_numpy(counts + 1.0).sqrt())
    return student.train()


def _finish(run: RunFolder, student: Student, masters: MasterWeights, tokenizer: Any, story: dict[str, Any]) -> None:
    """Write the encoder, with its heads where masked words were trained, and drop what the run leaves behind."""
    whole = bool(student.settings.masked_words)
    prefix = "network." if whole else "network.albert."
    model = student.network if whole else student.encoder
    weights = {n.removeprefix(prefix): value for n, value in masters.masters.items() if n.startswith(prefix)}
    log = (run.partial / files.LOG).read_text(encoding="utf-8").splitlines()

    def write(folder: Path) -> None:
        files.write_encoder(folder, model, weights, tokenizer)
        files.write_story(folder, {**story, "log": [json.loads(line) for line in log]}, model.config, story["teacher"])

    with write_errors(str(run.out), FREE_SPACE):
        run.finish(write)


def _summary(out: Path, report: Report, student: Student) -> PretrainSummary:
    progress = report.progress
    return PretrainSummary(
        out=str(out),
        parameters=sum(parameter.numel() for parameter in student.encoder.parameters()),
        steps=progress.step,
        tokens=progress.tokens,
        seconds=round(progress.seconds, 1),
        tokens_per_second=round(progress.tokens / max(progress.seconds, 1e-9), 1),
        loss=report.loss,
        held_out=report.held_out,
    )
