"""Layer 0: what a bag of a text's words says before the first layer. Knows token ids only: no tokenizer, no files."""

from elbert.words.model import WordModel

__all__ = ["WordModel"]
