"""Exit policies: which rows may leave the network after a layer. Arrays only: no torch, no model, no I/O."""

from __future__ import annotations

from elbert.exits.base import ExitPolicy, Found, State
from elbert.exits.registry import get, make, names, register
from elbert.exits.replay import replay

__all__ = ["ExitPolicy", "Found", "State", "get", "make", "names", "register", "replay"]
