"""Folders that other tools made, or that lack something: what they are, and the way out, before anything is read.

Looks at names and first bytes only. Every refusal names the file and the remedy.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import safe_open

from elbert.errors import MissingExtraError, ModelError
from elbert.metadata import FILE_NAME, read_json

# A clone without Git LFS leaves three lines of this kind in the place of a file.
_POINTER = b"version https://git-lfs"
_LARGEST_POINTER = 1024  # bytes, by its specification

# Endings of the files that elbert reads of a model.
_READ = (".json", ".safetensors", ".model", ".txt", ".onnx", ".xml", ".bin")

# Weights that are there and not read: as pickles, which can run code, or for another library.
_OTHER_WEIGHTS = ("*.bin", "*.ckpt", "*.pt", "*.pth", "tf_model.h5", "flax_model.msgpack", "*.gguf", "*.onnx")
_INDEX = "model.safetensors.index.json"

_UNQUANTISED = (
    "which elbert does not read: take the checkpoint they were made from, or call dequantize() on the model in "
    "transformers and save that; --dtype int8 quantises it for a CPU"
)


class Vocabulary(NamedTuple):
    """What a class of tokenizers reads where there is no tokenizer.json.

    Attributes:
        files: all of them are needed.
        kind: what they hold.
    """

    files: tuple[str, ...]
    kind: str


_SENTENCEPIECE = "SentencePiece"
_WORDPIECE = Vocabulary(("vocab.txt",), "WordPiece")
_VOCABULARIES = {
    "AlbertTokenizer": Vocabulary(("spiece.model",), _SENTENCEPIECE),
    "BertTokenizer": _WORDPIECE,
    "CamembertTokenizer": Vocabulary(("sentencepiece.bpe.model",), _SENTENCEPIECE),
    "DebertaV2Tokenizer": Vocabulary(("spm.model",), _SENTENCEPIECE),
    "DistilBertTokenizer": _WORDPIECE,
    "ElectraTokenizer": _WORDPIECE,
    "MPNetTokenizer": _WORDPIECE,
    "RobertaTokenizer": Vocabulary(("vocab.json", "merges.txt"), "byte-level BPE"),
    "XLMRobertaTokenizer": Vocabulary(("sentencepiece.bpe.model",), _SENTENCEPIECE),
}
_BY_FAMILY = {
    "albert": "AlbertTokenizer",
    "bert": "BertTokenizer",
    "camembert": "CamembertTokenizer",
    "deberta-v2": "DebertaV2Tokenizer",
    "distilbert": "DistilBertTokenizer",
    "electra": "ElectraTokenizer",
    "mpnet": "MPNetTokenizer",
    "roberta": "RobertaTokenizer",
    "xlm-roberta": "XLMRobertaTokenizer",
}


def check_files(folder: Path) -> None:
    """Refuse a folder whose files are not there themselves, or that holds another thing than a model.

    Raises:
        ModelError: it does.
    """
    for path in (*folder.iterdir(), *folder.glob("graphs/*")):
        if path.suffix in _READ and path.is_file() and _is_pointer(path):
            raise ModelError(
                f"{path} is a Git LFS pointer, not the file itself: run git lfs pull in its repository, or download "
                "the file"
            )
    if (folder / "adapter_config.json").is_file() and not _has_weights(folder):
        base = read_json(folder / "adapter_config.json").get("base_model_name_or_path")
        raise ModelError(
            f"{folder} holds an adapter (adapter_config.json) and no model: merge it into its base model {base!r} with "
            "merge_and_unload of the peft package, save that, and name its folder"
        )
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} is no model folder: it has no config.json{_instead(folder)}")


def no_head(folder: Path, missing: str) -> str:
    """Return what to say of an encoder that is to answer; `missing` is a tensor it lacks."""
    train = f"elbert train DATA --model {folder} --out DIR"
    if (folder / "model_head.pkl").is_file():
        return (
            f"{folder} is a SetFit model: its classifier is a pickle (model_head.pkl), which can run code and is never "
            f"read; fine-tune its encoder with {train}"
        )
    return f"{folder} has no trained classification head ({missing} is missing): fine-tune it first with {train}"


def no_weights(folder: Path, architectures: list[str] | None) -> str:
    """Return what to say where there are no safetensors.

    Args:
        folder: the model's.
        architectures: as its config.json names them; the weights are converted as what they are, or transformers would
            write random numbers for a head that is not there.
    """
    if (folder / "graphs").is_dir() and not (folder / FILE_NAME).exists():
        return f"{folder} holds graphs/ of an exported model, but {FILE_NAME} is missing: export the model again"
    shard = next((path.name for path in sorted(folder.glob("model-*-of-*.safetensors"))), None)
    if shard is not None:
        return f"{folder} has its weights in parts ({shard}), but {_INDEX}, which says what lies where, is missing"
    others = [path.name for pattern in _OTHER_WEIGHTS for path in sorted(folder.glob(pattern))]
    if not others:
        return (
            f"{folder} has no weights: model.safetensors is missing (a pytorch_model.bin, on the hub or elsewhere, "
            "is a pickle and never read)"
        )
    if not others[0].endswith((".bin", ".ckpt", ".pt", ".pth")):
        return f"{folder} has weights for another library only ({others[0]}): save the model as safetensors"
    name = next(iter(architectures or ()), None) or "AutoModel"
    then = "" if name.endswith("ForSequenceClassification") else ", then fine-tune it with elbert train"
    return (
        f"{folder} has its weights only as a pickle ({others[0]}), which can run code and is never read; convert it "
        f"once with transformers, if you trust it: {name}.from_pretrained(folder, use_safetensors=False)"
        f".save_pretrained(folder){then}"
    )


def check_unquantised(path: Path, content: Mapping[str, Any]) -> None:
    """Refuse a model whose weights somebody quantised.

    Args:
        path: of its config.json.
        content: of that.

    Raises:
        ModelError: they are.
    """
    settings = content.get("quantization_config")
    if settings is not None:
        method = settings.get("quant_method", "unnamed") if isinstance(settings, dict) else settings
        raise ModelError(f"{path}: the weights are quantised ({method}), {_UNQUANTISED}")


def check_stored(folder: Path) -> None:
    """Refuse weights that are not where the index says, or that are whole numbers: they would be read as they stand.

    Raises:
        ModelError: they are such.
        SafetensorError: a file is damaged.
    """
    for path in _files_of(folder):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 (it is no dict)
                kind = file.get_slice(name).get_dtype()
                if name.endswith((".weight", ".bias")) and kind.startswith(("I", "U", "BOOL")):
                    raise ModelError(f"{path}: tensor {name} holds whole numbers ({kind}), {_UNQUANTISED}")


def _files_of(folder: Path) -> list[Path]:
    """Return the files that hold a model's tensors."""
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    places = read_json(folder / _INDEX).get("weight_map")
    names = places.values() if isinstance(places, dict) else [None]
    odd = next((name for name in names if not isinstance(name, str) or Path(name).name != name), None)
    if odd is not None or not isinstance(places, dict):
        raise ModelError(
            f"{folder / _INDEX}: weight_map names {odd!r} for a tensor; allowed: a file of this folder: save the model "
            "again"
        )
    files = [folder / name for name in sorted(set(places.values()))]
    lost = next((path for path in files if not path.is_file()), None)
    if lost is not None:
        raise ModelError(f"{lost} is missing, in which {_INDEX} looks for tensors: fetch it, or save the model again")
    return files


def wrapped(folder: Path, found: Iterable[str], wanted: Iterable[str]) -> str | None:
    """Return what to say where a wrapper's name stands before that of every tensor, or None where none does.

    Args:
        folder: the model's.
        found: names that the checkpoint has and the model does not.
        wanted: names that the model has and the checkpoint does not.
    """
    wanted = set(wanted)
    for name in found:
        ending = next((each for each in wanted if name.endswith(f".{each}")), None)
        if ending is not None:
            prefix = name.removesuffix(ending)
            return (
                f"{folder}: every tensor of its checkpoint is called {prefix}…, as a wrapper around the model (such as "
                f"DataParallel or torch.compile) names them: take {prefix!r} off the names in model.safetensors"
            )
    return None


def vocabulary_class(folder: Path, config: Mapping[str, Any]) -> str | None:
    """Return transformers' class that reads a folder's vocabulary files, or None where it finds that by itself.

    Args:
        folder: the model's.
        config: its config.json.

    Raises:
        ModelError: the files do not fit the model's tokenizer, or are damaged.
        MissingExtraError: they are SentencePiece's, whose package is not installed.
    """
    if (folder / "tokenizer.json").is_file():
        return None
    path = folder / "tokenizer_config.json"
    settings = read_json(path) if path.is_file() else {}
    named = settings.get("tokenizer_class") or config.get("tokenizer_class")
    name = str(named or _BY_FAMILY.get(str(config.get("model_type")), "")).removesuffix("Fast")
    if name not in _VOCABULARIES:
        return None
    wanted = _VOCABULARIES[name]
    if not all((folder / each).is_file() for each in wanted.files):
        if named or not (folder / "vocab.txt").is_file():
            raise ModelError(_misfit(folder, name, wanted))
        name, wanted = "BertTokenizer", _WORDPIECE  # as community models have it whose family has another by default
    if wanted is _WORDPIECE:
        _check_words(folder / "vocab.txt", settings.get("unk_token", "[UNK]"))
    elif wanted.kind == _SENTENCEPIECE and find_spec("sentencepiece") is None:
        raise MissingExtraError("sentencepiece", "sentencepiece")
    return name


def _misfit(folder: Path, name: str, wanted: Vocabulary) -> str:
    known = {each for vocabulary in _VOCABULARIES.values() for each in vocabulary.files}
    found = ", ".join(each for each in sorted(known) if (folder / each).is_file()) or "none"
    words = "; if vocab.txt is WordPiece, name BertTokenizer as tokenizer_class in tokenizer_config.json"
    return (
        f"the tokenizer files in {folder} do not fit its {name}, which needs {' and '.join(wanted.files)} or a "
        f"tokenizer.json; found: {found}{words if (folder / 'vocab.txt').is_file() else ''}"
    )


def _check_words(path: Path, unknown: Any) -> None:
    """Refuse a WordPiece vocabulary that is not whole."""
    content = path.read_bytes()
    if content.startswith(b"\xef\xbb\xbf"):
        raise ModelError(
            f"{path} begins with a byte order mark, which becomes part of its first entry: save it without"
        )
    words = set(content.decode("utf-8", errors="replace").splitlines())
    if not words - {""}:
        raise ModelError(f"{path} is empty: restore it, or add the model's tokenizer.json")
    spelling = unknown.get("content") if isinstance(unknown, dict) else unknown
    if spelling not in words:
        raise ModelError(
            f"{path} has no {spelling}, which stands for unknown words: restore the file, or name another unk_token in "
            "tokenizer_config.json"
        )


def _is_pointer(path: Path) -> bool:
    if path.stat().st_size > _LARGEST_POINTER:
        return False
    with path.open("rb") as file:
        return file.read(len(_POINTER)) == _POINTER


def _has_weights(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("model.safetensors", "model.safetensors.index.json"))


def _instead(folder: Path) -> str:
    """Return where the model is, if it lies a folder deeper, as in older sentence-transformers."""
    below = next((path for path in sorted(folder.glob("*/config.json")) if os.access(path, os.R_OK)), None)
    return "" if below is None else f"; name {below.parent}, which has one"
