"""The tokenizer that inference runs: the tokenizers library's own, without transformers around it.

Does what transformers' fast tokenizers do for a classifier: ids, token types of a pair, truncation. Every model has one
of these to itself, so that nobody who calls transformers' tokenizer beside it can change what it does. It is read from
`tokenizer.json` where transformers 5 has written that file, as it then holds the tokenizer as it ran; from older files
transformers rebuilds parts by rules of its own, so there it is made from transformers' tokenizer.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Encoding, Tokenizer
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import ByteLevel

from elbert.data import Text
from elbert.errors import ModelError, UsageError
from elbert.metadata import read_json
from elbert.modeling.files.checks import check_vocabulary
from elbert.modeling.files.long_texts import encode

# Classes whose settings are read here, each with: does it name token types among the model's inputs by itself?
_CLASSES = {
    "AlbertTokenizer": False,
    "BertTokenizer": True,
    "DistilBertTokenizer": False,
    "PreTrainedTokenizerFast": False,
    "RobertaTokenizer": False,
    "TokenizersBackend": False,
}

# Settings that change what a text becomes, and the only values read here.
_PLAIN: dict[str, tuple[Any, ...]] = {
    "backend": ("tokenizers",),
    "truncation_side": (None, "right", "left"),
    "split_special_tokens": (None, False),
    "auto_map": (None,),
    "fix_mistral_regex": (None,),
}

# Files of older versions, which transformers merges into the tokenizer.
_OLD_FILES = ("special_tokens_map.json", "added_tokens.json")


class Encoded(dict[str, list[list[int]]]):
    """Texts as tokens, with the keys of transformers' `BatchEncoding`: `input_ids` and maybe `token_type_ids`.

    Attributes:
        encodings: what the tokenizers library said of each text.
        texts: what their offsets are of: the texts, or what was tokenised of very long ones.
    """

    def __init__(self, encodings: Sequence[Encoding], texts: Sequence[Text], *, token_types: bool) -> None:
        super().__init__(input_ids=[encoding.ids for encoding in encodings])
        if token_types:
            self["token_type_ids"] = [encoding.type_ids for encoding in encodings]
        self.encodings = list(encodings)
        self.texts = texts


class PlainTokenizer:
    """A tokenizer for inference, called as transformers' own.

    Args:
        backend: of the tokenizers library; from now on this object's alone.
        truncation_side: the end of a text that is cut off where it is too long, "right" or "left".
        inputs: names of what the tokenizer gives a model, as it says itself.
        named: True where its file names these inputs, False where they are what its class takes by itself.
        make: gives transformers' own tokenizer of the same content.

    Attributes:
        token_types: True where the two texts of a pair are told apart by token types 0 and 1.
        strays: entries that the model does not embed, by id; see `checks.check_vocabulary`.
    """

    def __init__(
        self, backend: Tokenizer, truncation_side: str, inputs: Sequence[str], named: bool, make: Callable[[], Any]
    ) -> None:
        backend.no_padding()
        backend.no_truncation()
        self.backend = backend
        self.truncation_side = truncation_side
        self.token_types = "token_type_ids" in inputs
        self.named = named
        self.strays: dict[int, str] = {}
        self._make = make
        self._own: Any = None
        self._limit: int | None = None

    @classmethod
    def of(cls, tokenizer: Any, *, entries: int, token_types: bool, where: str = "the model") -> PlainTokenizer:
        """Return a tokenizer for a model that does what `tokenizer` does, and shares nothing with transformers' one.

        Args:
            tokenizer: transformers' own, or one of these, which is then made ready in place.
            entries: rows of the model's word embedding.
            token_types: whether the model reads token types of pairs.
            where: what to call the model in an error.

        Raises:
            ModelError: it exists in Python only, or belongs to another model.
        """
        plain = tokenizer if isinstance(tokenizer, cls) else cls._copy_of(tokenizer, where)
        plain.strays = check_vocabulary(where, plain.backend, entries)
        plain.token_types = token_types
        return plain

    @classmethod
    def _copy_of(cls, tokenizer: Any, where: str) -> PlainTokenizer:
        check_fast(tokenizer, where)
        backend = copy.deepcopy(tokenizer.backend_tokenizer)
        backend.encode_special_tokens = bool(tokenizer.split_special_tokens)
        inputs, named = tokenizer.model_input_names, "model_input_names" in tokenizer.init_kwargs
        return cls(backend, tokenizer.truncation_side, inputs, named, lambda: copy.deepcopy(tokenizer))

    def __len__(self) -> int:
        """Return how many entries there are, added ones included."""
        return int(self.backend.get_vocab_size(with_added_tokens=True))

    def to_transformers(self) -> Any:
        """Return transformers' own of the same content, made on first use; calling it changes nothing here."""
        if self._own is None:
            self._own = self._make()
            name_inputs(self._own, token_types=self.token_types)
        return self._own

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of tokens, special ones included."""
        return str(self.backend.decode(list(ids), skip_special_tokens=False))

    def smallest(self, *, paired: bool) -> int:
        """Return the least `max_length` that leaves a token of every text, special tokens included."""
        return int(self.backend.num_special_tokens_to_add(paired)) + (2 if paired else 1)

    def problem(self, ids: Sequence[int]) -> str | None:
        """Say which of these tokens the model cannot read, or return None where it reads them all."""
        if not self.strays:
            return None
        stray = next((each for each in ids if each in self.strays), None)
        if stray is None:
            return None
        return (
            f"it holds {self.strays[stray]!r}, which the tokenizer knows (id {stray}) and the model does not embed; "
            "take it out of the text, or use the tokenizer that the model was trained with"
        )

    def __call__(self, texts: Sequence[Text], *, truncation: bool, max_length: int, reach: int = 0) -> Encoded:
        """Tokenise texts of one kind: all single, or all pairs.

        Args:
            texts: strings, or tuples of two.
            truncation: cut off what is longer, of a pair from the longer half.
            max_length: tokens at most, special tokens included.
            reach: tokens that somebody wants to find in a single text that is longer, the cut ones among them.

        Raises:
            UsageError: `max_length` leaves no room for the words.
        """
        paired = bool(texts) and isinstance(texts[0], tuple)
        if truncation and max_length < self.smallest(paired=paired):
            raise UsageError(
                f"max_length {max_length} leaves no room for words beside the special tokens; allowed for "
                f"{'pairs' if paired else 'single texts'} with this tokenizer: {self.smallest(paired=paired)} or more"
            )
        limit = max_length if truncation else None
        if limit != self._limit:  # setting it fails while another thread tokenises, so only where it is a new one
            if limit is None:
                self.backend.no_truncation()
            else:
                self.backend.enable_truncation(limit, strategy="longest_first", direction=self.truncation_side)
            self._limit = limit
        read = encode(self.backend, texts, limit, self.truncation_side, reach=reach)
        return Encoded(*read, token_types=self.token_types)


def read_plain_tokenizer(folder: Path, make: Callable[[Mapping[str, bytes]], Any]) -> PlainTokenizer | None:
    """Return the tokenizer in a model folder, or None where only transformers can tell what it does.

    Args:
        folder: the model's.
        make: gives transformers' own tokenizer from the content of its files, by name.
    """
    path, settings_path = folder / "tokenizer.json", folder / "tokenizer_config.json"
    if not path.is_file() or not settings_path.is_file() or any((folder / name).exists() for name in _OLD_FILES):
        return None
    try:
        settings = read_json(settings_path)
        inputs = settings.get("model_input_names")
        by_class = ["token_type_ids"] if _CLASSES[settings["tokenizer_class"]] else []
        if any(settings.get(field) not in allowed for field, allowed in _PLAIN.items()):
            return None
        if "add_bos_token" in settings or "add_eos_token" in settings:
            return None
        files = {each.name: each.read_bytes() for each in (path, settings_path, folder / "config.json")}
        backend = Tokenizer.from_buffer(files["tokenizer.json"])
        if _edited(settings, backend):
            return None
        side = settings.get("truncation_side") or "right"
        return PlainTokenizer(
            backend, side, by_class if inputs is None else inputs, inputs is not None, lambda: make(files)
        )
    except (ModelError, KeyError, TypeError, AttributeError, OSError):
        return None
    except Exception as error:  # the Rust tokenizer raises bare Exception
        if type(error) not in (Exception, ValueError):
            raise
        return None


def _edited(settings: Mapping[str, Any], backend: Tokenizer) -> bool:
    """Say whether settings and tokenizer.json tell different things of a text; transformers goes by the settings."""
    lower, name = settings.get("do_lower_case", True), settings["tokenizer_class"]
    if name in ("BertTokenizer", "DistilBertTokenizer"):
        accents, signs = settings.get("strip_accents"), settings.get("tokenize_chinese_chars", True)
        bert = BertNormalizer(lowercase=lower, strip_accents=accents, handle_chinese_chars=signs)
        return bool(_state(backend.normalizer) != _state(bert))
    if name == "RobertaTokenizer":
        return bool(_state(backend.pre_tokenizer) != _state(ByteLevel(settings.get("add_prefix_space", False))))
    if name == "AlbertTokenizer":
        kinds = [part["type"] for part in _state(backend.normalizer)["normalizers"]]
        return ("Lowercase" in kinds, "StripAccents" in kinds) != (lower, not settings.get("keep_accents", False))
    return False


def _state(part: Any) -> Any:
    return json.loads(part.__getstate__())


def check_fast(tokenizer: Any, where: object) -> None:
    """Raise ModelError for a tokenizer of transformers that exists in Python only."""
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(
            f"the tokenizer in {where} is a {type(tokenizer).__name__}, which exists in Python only; elbert runs those "
            "of the tokenizers library: use a model that has a tokenizer.json, or convert this one to it"
        )


def name_inputs(tokenizer: Any, *, token_types: bool) -> None:
    """Let transformers' tokenizer give a model what it reads: token types where it tells the texts of a pair apart."""
    tokenizer.model_input_names = inputs_of(token_types=token_types)


def inputs_of(*, token_types: bool) -> list[str]:
    """Return the names of what a tokenizer has to give a model."""
    return ["input_ids", *(["token_type_ids"] if token_types else []), "attention_mask"]
