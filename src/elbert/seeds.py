"""The one range of every seed: what NumPy, PyTorch and transformers all take."""

from __future__ import annotations

from elbert.errors import UsageError

LARGEST_SEED = 2**32 - 1


def check_seed(seed: int) -> int:
    """Return the seed.

    Raises:
        UsageError: it is not in 0 .. `LARGEST_SEED`.
    """
    if not 0 <= seed <= LARGEST_SEED:
        raise UsageError(f"seed is {seed}; allowed: 0 to {LARGEST_SEED}")
    return seed
