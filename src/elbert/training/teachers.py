"""A teacher: a fine-tuned classifier whose opinion of every training text is asked once, and kept while a run lasts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor
from tqdm import tqdm

from elbert.data import Labels, Text, TextDataset
from elbert.data.table import quote_names
from elbert.disk import FREE_SPACE, write_errors, write_whole
from elbert.errors import ModelError, UsageError
from elbert.modeling import MultiExitModel, load_model
from elbert.modeling.classes import as_the_data_spells
from elbert.modeling.files.plain_tokenizer import PlainTokenizer
from elbert.modeling.files.sources import find_folder
from elbert.modeling.files.words import read_words
from elbert.runs.callbacks import TrainingInterruptedError
from elbert.training.encoding import collator_for, encode
from elbert.words import WordModel

# Texts whose answers are written together; a run that was killed asks for no more than these again.
CHUNK = 1024
# Texts in one pass.
BATCH = 64


@dataclass(frozen=True, slots=True, eq=False)
class Teacher:
    """A trained classifier of the very classes a student is to learn. C classes.

    Attributes:
        name: as the user gave it.
        model: the classifier, in evaluation mode; its last layer is what teaches.
        tokenizer: its own, which may differ from the student's.
        order: C indices into its logits, in the order of the student's classes.
        max_length: tokens it reads of a text.
        words: its layer 0, where that is added to its exits; else None.
        pairs: whether it was trained on pairs of texts; None where that was not recorded.
    """

    name: str
    model: MultiExitModel
    tokenizer: PlainTokenizer
    order: tuple[int, ...]
    max_length: int
    words: WordModel | None = None
    pairs: bool | None = None

    def digest(self) -> str:
        """Return what tells its weights and the order of its classes from any other's, 16 hexadecimal digits."""
        found = hashlib.sha256(repr((self.order, self.max_length)).encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            found.update(name.encode())
            found.update(tensor.cpu().contiguous().numpy().data)
        for name, values in ({} if self.words is None else self.words.tensors()).items():
            found.update(name.encode() + values.tobytes())
        return found.hexdigest()[:16]

    @torch.no_grad()
    def logits(self, texts: Sequence[Text], dtype: str) -> Tensor:
        """Return its last layer's logits of texts, [N, C] in the student's order of classes, float32.

        Args:
            texts: N of them.
            dtype: `bfloat16` for matrix products in that, else float32.
        """
        reach = 0 if self.words is None else self.words.reach
        encoded = encode(TextDataset(texts), self.tokenizer, self.max_length, reach=reach, progress=False)
        rows = replace(encoded, labels=[0] * len(texts))
        padding = self.tokenizer.to_transformers()
        device, collate = self.model.device, collator_for(padding, "single_label_classification")
        answers = torch.empty(len(texts), len(self.order))
        for places in torch.tensor(rows.lengths).argsort(descending=True, stable=True).split(BATCH):
            batch = collate([rows[place] for place in places.tolist()])
            inputs = {name: tensor.to(device) for name, tensor in batch.items() if name != "labels"}
            with torch.autocast(device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
                last = self.model(**inputs).logits[:, -1]
            answers[places] = last[:, self.order].float().cpu()
        added = None if self.words is None else self.words.added(encoded.read_by_words(range(len(texts))))
        return answers if added is None else answers + torch.from_numpy(added)[:, self.order]


def load_teacher(name: str, space: Labels, max_length: int) -> Teacher:
    """Load a teacher for a student of these classes; the two may name them in another order.

    Args:
        name: folder, hub id or bundled name of a trained classifier of any family that is read.
        space: the student's classes.
        max_length: tokens the student reads; the teacher reads as many, or as many as it can.

    Raises:
        UsageError: there is no such model, or it answers something else.
        ModelError: it cannot be used, or has no trained head.
    """
    folder = find_folder(name)
    model, tokenizer, elbert = load_model(folder)  # a folder always: random weights have nothing to teach
    own = Labels.from_id2label(model.config.id2label, model.problem_type)
    if own.problem_type != space.problem_type:
        raise UsageError(
            f"teacher {name} is for {own.problem_type} and the data for {space.problem_type}; give a teacher of the "
            "same problem, or set problem_type in its config.json if that is wrong"
        )
    order = _order(name, own.names, space.names) if own.names else (0,)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    most = min(max_length, model.family.max_length(model.config))
    words = read_words(folder, len(order), elbert)
    words = words if words is not None and words.at_exits else None
    reader = model.reader(tokenizer, where=name)
    return Teacher(name, model.eval().to(device), reader, order, most, words, elbert.get("pairs"))


def soft_labels(teacher: Teacher, texts: Sequence[Text], folder: Path, *, dtype: str, progress: bool) -> Tensor:
    """Return the teacher's logits of texts, [N, C]; those that lie in `folder` already are not asked for again.

    Args:
        teacher: whom to ask.
        texts: N of them; the same for the same folder.
        folder: where the answers are kept, `CHUNK` texts a file; made if absent.
        dtype: as in `Teacher.logits`.
        progress: show a bar on stderr.

    Raises:
        ModelError: a file of earlier answers is damaged, or an answer is not a number.
        TrainingInterruptedError: Ctrl-C came; what was said so far is kept.
    """
    folder.mkdir(exist_ok=True)
    starts = range(0, len(texts), CHUNK)
    paths = [folder / f"{start // CHUNK:06}.safetensors" for start in starts]
    bar = tqdm(starts, desc="asking the teacher", unit="chunk", disable=not progress, leave=False)
    parts = []
    try:
        for start, path in zip(bar, paths, strict=True):
            if not path.is_file():
                _ask(teacher, texts[start : start + CHUNK], path, dtype)
            parts.append(_read(path))
    except KeyboardInterrupt as stop:
        kept = min(CHUNK * sum(path.is_file() for path in paths), len(texts))
        raise TrainingInterruptedError(
            f"stopped while the teacher was asked; {kept} of {len(texts)} answers are kept: run the same command with "
            "--resume",
            stop,
        ) from None
    return torch.cat(parts)


def _ask(teacher: Teacher, texts: Sequence[Text], path: Path, dtype: str) -> None:
    answers = teacher.logits(texts, dtype)
    if not bool(torch.isfinite(answers).all()):
        raise ModelError(f"teacher {teacher.name} answers NaN or infinity; use another, or --dtype float32")
    with write_errors(f"the teacher's answers in {path.parent}", FREE_SPACE):
        write_whole(path, save({"logits": answers}))


def _order(name: str, own: tuple[str, ...], wanted: tuple[str, ...]) -> tuple[int, ...]:
    """Return where each wanted class stands among the teacher's."""
    spelt = as_the_data_spells(own, wanted)
    if spelt is None:
        raise UsageError(
            f"teacher {name} knows the classes {quote_names(own)} and the data {quote_names(wanted)}; they must be the "
            "same: name the teacher's in id2label of its config.json, or give another teacher"
        )
    return tuple(spelt.index(each) for each in wanted)


def _read(path: Path) -> Tensor:
    try:
        return load_file(path)["logits"]
    except (SafetensorError, OSError, KeyError) as error:
        raise ModelError(f"{path} cannot be read ({str(error).splitlines()[0]}); delete it and resume") from error
