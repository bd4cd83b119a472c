"""The loss schemes, one small file each, and the table that finds them by name."""

from __future__ import annotations

from typing import Any

from elbert.errors import UsageError, did_you_mean
from elbert.training.schemes.act import ActScheme
from elbert.training.schemes.alternate import AlternateScheme
from elbert.training.schemes.base import LossScheme, check_options
from elbert.training.schemes.cosee import CoseeScheme
from elbert.training.schemes.cross_level import CrossLevelScheme
from elbert.training.schemes.depth_weighted import DepthWeightedScheme
from elbert.training.schemes.detached import DetachedScheme
from elbert.training.schemes.elbert import ElbertScheme
from elbert.training.schemes.elbert_balanced import ElbertBalancedScheme
from elbert.training.schemes.equal import EqualScheme
from elbert.training.schemes.gradient_regularised import GradientRegularisedScheme
from elbert.training.schemes.last import LastScheme
from elbert.training.schemes.layer_drop import LayerDropScheme
from elbert.training.schemes.mixed import MixedScheme
from elbert.training.schemes.past_future import PastFutureScheme
from elbert.training.schemes.ponder import PonderScheme
from elbert.training.schemes.right_tool import RightToolScheme
from elbert.training.schemes.self_distillation import SelfDistillationScheme
from elbert.training.schemes.skip_gates import SkipGatesScheme
from elbert.training.schemes.tight_frame import TightFrameScheme
from elbert.training.schemes.two_stage import TwoStageScheme

SCHEMES: dict[str, type[LossScheme]] = {
    scheme.name: scheme
    for scheme in (
        ElbertScheme,
        ElbertBalancedScheme,
        EqualScheme,
        DepthWeightedScheme,
        TwoStageScheme,
        MixedScheme,
        SelfDistillationScheme,
        AlternateScheme,
        GradientRegularisedScheme,
        CrossLevelScheme,
        CoseeScheme,
        PonderScheme,
        ActScheme,
        RightToolScheme,
        PastFutureScheme,
        DetachedScheme,
        TightFrameScheme,
        SkipGatesScheme,
        LayerDropScheme,
        LastScheme,
    )
}


def names() -> list[str]:
    """Return the names of every scheme, the paper's first."""
    return list(SCHEMES)


def get(name: str) -> type[LossScheme]:
    """Return the scheme called `name`.

    Raises:
        UsageError: there is none; the message names the closest.
    """
    if name not in SCHEMES:
        raise UsageError(f"unknown scheme {name!r}{did_you_mean(name, SCHEMES)}")
    return SCHEMES[name]


def make(name: str, num_layers: int, **options: Any) -> LossScheme:
    """Return a fresh scheme for a model of `num_layers` layers.

    Raises:
        UsageError: an unknown scheme or option, or a value out of range.
    """
    scheme = get(name)
    check_options(scheme, options)
    return scheme(num_layers, **options)


def from_dict(saved: dict[str, Any]) -> LossScheme:
    """Return the scheme that `to_dict` described, its learned weights included.

    Raises:
        UsageError: a key is missing, or it describes no known scheme.
    """
    missing = {"name", "num_layers"} - saved.keys()
    if missing:
        raise UsageError(f"a saved scheme lacks {', '.join(sorted(missing))}")
    scheme = make(saved["name"], saved["num_layers"], **saved.get("options", {}))
    if "hidden_size" in saved:
        scheme.build(int(saved["hidden_size"]))
    scheme.restore(saved.get("state", {}))
    return scheme


__all__ = ["SCHEMES", "LossScheme", "check_options", "from_dict", "get", "make", "names"]
