"""Layer 0: what a bag of a text's words says before the first layer. Knows token ids only: no tokenizer, no files."""

from elbert.words.grams import packed
from elbert.words.model import WordModel
from elbert.words.reach import end_of_words, read_by_words

__all__ = ["WordModel", "end_of_words", "packed", "read_by_words"]
