"""Training a WordPiece tokenizer on the user's own texts, for models that start from random weights.

Does not load tokenizers (that is `load.py`'s work) and downloads nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Tokenizer
from tokenizers.decoders import WordPiece as WordPieceDecoder
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import WordPieceTrainer
from transformers import PreTrainedTokenizerFast

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")  # ids 0 to 4; [CLS] and [SEP] as in ALBERT's own config


def train_tokenizer(texts: Iterable[str], vocab_size: int = 8000, *, max_length: int = 512) -> PreTrainedTokenizerFast:
    """Learn a lower-casing WordPiece vocabulary.

    Args:
        texts: what to learn from; read once. Printable ASCII is always in the vocabulary, so with no texts at all the
            tokenizer falls back to single characters.
        vocab_size: entries at most, special tokens included.
        max_length: the tokenizer's `model_max_length`, special tokens included.

    Returns:
        A fast tokenizer that writes `[CLS] a [SEP]` and `[CLS] a [SEP] b [SEP]` with token types 0 and 1.
    """
    tokenizer = Tokenizer(WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.decoder = WordPieceDecoder()
    alphabet = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    trainer = WordPieceTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    cls, sep = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", cls), ("[SEP]", sep)],
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
