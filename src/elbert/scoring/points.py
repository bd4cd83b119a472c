"""What a sweep found: settings of a policy between quality and depth, and the curve through them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class TradeoffPoint:
    """One setting of a policy between quality and depth; where several models were swept, means over them.

    Attributes:
        policy: the policy as JSON.
        score: what the texts scored at the exits it chose.
        score_band: (low, high) of that over resamples.
        mean_exit_layer: layers a text ran on average, 0 .. M; where it dropped tokens each layer by the share it ran.
            Where layer 0 is asked, its cost is in it.
        layer_speedup: M, with layer 0's cost where it is added to the exits, / mean exit layer; None where no layer was
            run and layer 0 counted at nothing.
        changed: share of the texts whose answer differs from the one at full depth.
        exit_histogram: [M] texts that left after layer 1 .. M.
        on_front: no setting of the same policy is as good in fewer layers, or better in as few.
        on_overall_front: no setting of any policy is.
        speedup: measured, full-depth seconds over seconds with these exits; None where nobody timed it.
        layer_0: texts that left at layer 0; None where it is off.
    """

    policy: dict[str, Any]
    score: float
    score_band: tuple[float, float]
    mean_exit_layer: float
    layer_speedup: float | None
    changed: float
    exit_histogram: tuple[float, ...]
    on_front: bool
    on_overall_front: bool
    speedup: float | None = None
    layer_0: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class SpeedupPoint:
    """What a policy scores with so many times fewer layers, its settings chosen on other texts than it is scored on.

    Attributes:
        layer_speedup: M over the layers that texts run on average.
        score: at that mean, by the straight lines between settings.
        score_band: (low, high) of that over resamples.
        gain: above the score of a constant depth, whose layers are chosen in the same way.
        gain_band: (low, high) of that over the same resamples.
    """

    layer_speedup: float
    score: float
    score_band: tuple[float, float]
    gain: float
    gain_band: tuple[float, float]


@dataclass(frozen=True, slots=True)
class TradeoffCurve:
    """What one policy offers between layer 1 and full depth, over all its settings.

    The curve joins the settings on the policy's front, layer 1's exit and full depth by straight lines. Its area is
    their mean height between layer 1 and layer M: the score at a depth drawn evenly from that range.

    Attributes:
        policy: its name; behind it `+words` where its settings ask layer 0, `+tokens` where they drop tokens, `+gates`
            where they skip layers and others do not.
        points: every setting, in the order of the grid.
        depths: mean exit layers, 1 .. M in equal steps, at which the curve is given.
        scores: the curve's height there.
        low: lower edge of its band there.
        high: upper edge.
        area: normalised area under the curve, in units of the score.
        area_band: (low, high) of that over resamples.
        area_held_out: the same area with the settings chosen on one half of the texts and scored on the other.
        area_held_out_band: (low, high) of that over resamples, which are halved too.
        gain_held_out: that area above the one of a constant depth.
        gain_held_out_band: (low, high) of that over the same resamples.
        rank: place among the curves of the sweep by `area_held_out`, 1 the best; equals share theirs.
        rank_band: (low, high) of that over the same resamples.
        at_speedups: what is scored with 1, 1.5, 2, 3, 5 and 10 times fewer layers, held out likewise.
        gain: area above the one of a constant depth.
        gain_band: (low, high) of that over the same resamples.
        quarter_score: the curve's height at a quarter of the layers, where three quarters of the work are saved.
        quarter_gain: that above the one of a constant depth.
        quarter_gain_band: (low, high) of that over the same resamples.
        area_by_model: each model's own area, in the order given.
    """

    policy: str
    points: tuple[TradeoffPoint, ...]
    depths: tuple[float, ...]
    scores: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    area: float
    area_band: tuple[float, float]
    area_held_out: float
    area_held_out_band: tuple[float, float]
    gain_held_out: float
    gain_held_out_band: tuple[float, float]
    rank: float
    rank_band: tuple[float, float]
    at_speedups: tuple[SpeedupPoint, ...]
    gain: float
    gain_band: tuple[float, float]
    quarter_score: float
    quarter_gain: float
    quarter_gain_band: tuple[float, float]
    area_by_model: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)
