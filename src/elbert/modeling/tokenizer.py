"""Training a WordPiece tokenizer on the user's own texts, for models that start from random weights.

Does not load tokenizers (that is `load.py`'s work) and downloads nothing. The same texts always give the same
vocabulary, which the trainer of the tokenizers library alone does not promise: it numbers word-inner characters in the
order of a randomly seeded hash table, and breaks ties between equally frequent pairs by these numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from tokenizers import Tokenizer
from tokenizers.decoders import WordPiece as WordPieceDecoder
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import WordPieceTrainer
from transformers import PreTrainedTokenizerFast

from elbert.errors import UsageError

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")  # ids 0 to 4; [CLS] and [SEP] as in ALBERT's own config

_MOST_CHARACTERS = 1000  # rarer ones are read as [UNK]
_ASCII = "".join(chr(code) for code in range(33, 127) if not chr(code).isupper())


def train_tokenizer(texts: Iterable[str], vocab_size: int = 8000, *, max_length: int = 512) -> PreTrainedTokenizerFast:
    """Learn a lower-casing WordPiece vocabulary; the same texts give the same one.

    Args:
        texts: what to learn from; held in memory. Printable ASCII is in the vocabulary as far as there is room, so with
            no texts at all the tokenizer falls back to single characters.
        vocab_size: entries at most, special tokens included; at least 7.
        max_length: the tokenizer's `model_max_length`, special tokens included.

    Returns:
        A fast tokenizer that writes `[CLS] a [SEP]` and `[CLS] a [SEP] b [SEP]` with token types 0 and 1.

    Raises:
        UsageError: `vocab_size` leaves no room for a character.
    """
    room = (vocab_size - len(SPECIAL_TOKENS)) // 2  # a character is an entry at a word's start and one inside it
    if room < 1:
        raise UsageError(f"vocab_size {vocab_size} is too small: allowed are {len(SPECIAL_TOKENS) + 2} and more")
    texts = texts if isinstance(texts, Sequence) else list(texts)
    vocabulary = _learn(texts, _alphabet(texts)[: min(room, _MOST_CHARACTERS)], vocab_size)
    tokenizer = _empty(vocabulary)
    tokenizer.decoder = WordPieceDecoder()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=max_length,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def _empty(vocabulary: dict[str, int] | None = None) -> Tokenizer:
    tokenizer = Tokenizer(WordPiece(vocabulary or {}, unk_token="[UNK]"))
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    return tokenizer


def _alphabet(texts: Sequence[str]) -> list[str]:
    """Return the characters of the texts, most frequent first, then the rest of printable ASCII."""
    normalizer = BertNormalizer(lowercase=True)
    counts = Counter(_ASCII)
    for text in texts:
        counts.update(normalizer.normalize_str(text))
    characters = [character for character in counts if not character.isspace()]
    return sorted(characters, key=lambda character: (-counts[character], character))


def _learn(texts: Sequence[str], alphabet: Sequence[str], vocab_size: int) -> dict[str, int]:
    """Return the vocabulary; naming the word-inner characters among the special tokens is what fixes their numbers."""
    trainer = WordPieceTrainer(
        vocab_size=vocab_size,
        special_tokens=[*SPECIAL_TOKENS, *(f"##{character}" for character in alphabet)],
        initial_alphabet=list(alphabet),
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    tokenizer = _empty()
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer.get_vocab(with_added_tokens=True)
