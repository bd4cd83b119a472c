"""Exit policies: which rows may leave the network after a layer. Tensors only: no model, no tokenizer, no I/O."""

from __future__ import annotations

from elbert.exits.base import ExitPolicy, State
from elbert.exits.registry import get, make, names, register
from elbert.exits.replay import replay
from elbert.exits.scores import puzzlement

__all__ = ["ExitPolicy", "State", "get", "make", "names", "puzzlement", "register", "replay"]
