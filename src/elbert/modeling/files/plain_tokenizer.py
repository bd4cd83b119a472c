"""The model's tokenizer without transformers: the tokenizers library's own, read from `tokenizer.json`.

Does for inference what transformers' fast tokenizer does: ids, token types, truncation. Reads only what transformers 5
has written, whose `tokenizer.json` holds the tokenizer as it ran; of older files transformers rebuilds parts by rules
of its own, and those are left to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Encoding, Tokenizer

from elbert.data import Text
from elbert.errors import ModelError
from elbert.metadata import read_json

# By class of the tokenizer: does it give token types, where tokenizer_config.json does not name the model's inputs?
_TOKEN_TYPES = {
    "AlbertTokenizer": False,
    "BertTokenizer": True,
    "DistilBertTokenizer": False,
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
    """

    def __init__(self, encodings: Sequence[Encoding], *, token_types: bool) -> None:
        super().__init__(input_ids=[encoding.ids for encoding in encodings])
        if token_types:
            self["token_type_ids"] = [encoding.type_ids for encoding in encodings]
        self.encodings = list(encodings)


class LeanTokenizer:
    """A tokenizer for inference, called as transformers' own.

    Args:
        folder: the model's.
        tokenizer: of the tokenizers library.
        truncation_side: the end of a text that is cut off where it is too long, "right" or "left".
        token_types: True where the model reads token types of a pair.
    """

    def __init__(self, folder: Path, tokenizer: Tokenizer, truncation_side: str, *, token_types: bool) -> None:
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self.folder = folder
        self.backend = tokenizer
        self.truncation_side = truncation_side
        self.token_types = token_types
        self._limit: int | None = None

    def __len__(self) -> int:
        """Return how many entries there are, added ones included."""
        return int(self.backend.get_vocab_size(with_added_tokens=True))

    def whole(self) -> Any:
        """Return transformers' own tokenizer, read from the folder once more."""
        from elbert.modeling.files.load import load_tokenizer  # imports transformers

        return load_tokenizer(self.folder)

    def __call__(self, texts: Sequence[Text], *, truncation: bool, max_length: int) -> Encoded:
        """Tokenise texts of one kind: all single, or all pairs.

        Args:
            texts: strings, or tuples of two.
            truncation: cut off what is longer, of a pair from the longer half.
            max_length: tokens at most, special tokens included.
        """
        limit = max_length if truncation else None
        if limit != self._limit:  # setting it fails while another thread tokenises, so only where it is a new one
            if limit is None:
                self.backend.no_truncation()
            else:
                self.backend.enable_truncation(limit, strategy="longest_first", direction=self.truncation_side)
            self._limit = limit
        return Encoded(self.backend.encode_batch(list(texts)), token_types=self.token_types)


def read_lean_tokenizer(folder: Path) -> LeanTokenizer | None:
    """Return the tokenizer in a model folder, or None where only transformers can tell what it does."""
    path, settings_path = folder / "tokenizer.json", folder / "tokenizer_config.json"
    if not path.is_file() or not settings_path.is_file() or any((folder / name).exists() for name in _OLD_FILES):
        return None
    try:
        settings = read_json(settings_path)
        inputs = settings.get("model_input_names")
        types = _TOKEN_TYPES[settings["tokenizer_class"]] if inputs is None else "token_type_ids" in inputs
        if any(settings.get(field) not in allowed for field, allowed in _PLAIN.items()):
            return None
        if "add_bos_token" in settings or "add_eos_token" in settings:
            return None
        tokenizer = Tokenizer.from_file(str(path))
    except (ModelError, KeyError, TypeError):
        return None
    except Exception as error:  # the Rust tokenizer raises bare Exception
        if type(error) is not Exception:
            raise
        return None
    return LeanTokenizer(folder, tokenizer, settings.get("truncation_side") or "right", token_types=types)
