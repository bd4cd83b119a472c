"""Learned policies: their weights are fitted on some of the texts, so that the others can judge them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from elbert.exits import ExitPolicy, make
from elbert.results import LayerOutputs
from elbert.tasks import task_of

# Share of the texts that weights are fitted on.
_SHARE = 0.3


def fit_aside(
    family: str, outputs: LayerOutputs, labels: ArrayLike | None, seed: int
) -> tuple[ExitPolicy, NDArray[np.int64]]:
    """Fit a policy that learns on texts put aside.

    Args:
        family: name of a policy.
        outputs: a full-depth recording of N texts.
        labels: [N] or [N, C], encoded; None takes what full depth says.
        seed: of the texts put aside.

    Returns:
        The policy, with weights where it learns any, and the numbers of the texts it has not seen, ascending.

    Raises:
        UsageError: the recording lacks what the policy reads.
    """
    policy, texts = make(family), len(outputs.probs)
    if not policy.learned:
        return policy, np.arange(texts)
    aside = np.sort(np.random.default_rng([seed, 1]).permutation(texts)[: math.ceil(_SHARE * texts)])
    said = task_of(outputs.problem_type).decisions(outputs.probs[:, -1]).numpy()
    targets = said if labels is None else np.asarray(labels)
    return policy.fit(outputs.select(aside), targets[aside]), np.setdiff1d(np.arange(texts), aside)
