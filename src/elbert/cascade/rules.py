"""What may stand in a cascade: rules that mean the same between models as within one, and models that differ."""

from __future__ import annotations

from collections.abc import Sequence

from elbert.classifier import Classifier
from elbert.errors import UsageError
from elbert.exits import ExitPolicy, get
from elbert.exits.combine import AllOf, AnyOf
from elbert.exits.patience import Patience

_TAKE = "take max_prob, energy or entropy, or with three models or more patience"


def check_rule(policy: ExitPolicy) -> None:
    """Refuse a policy that means nothing between models.

    A rule that looks at one answer asks how sure one model is, whichever that is. One that remembers follows a network
    from layer to layer: how its entropy falls, or a sum over its exits. Between models trained apart there is no such
    course; only whether they say the same, which is `patience`.

    Raises:
        UsageError: it reads a state, weights, words, tokens or gates, or it remembers.
    """
    own = any(part is not None for part in policy.around.values())
    if policy.learned or policy.needs or own:
        raise UsageError(
            f"exit policy {policy.name!r} reads a model's states, weights, words, tokens or gates, which a cascade's "
            f"models have not in common; {_TAKE}"
        )
    if isinstance(policy, (AnyOf, AllOf)):
        for rule in policy.policies:
            check_rule(rule)
    elif not isinstance(policy, Patience) and policy.start(0, 1):
        raise UsageError(
            f"exit policy {policy.name!r} follows one network from layer to layer, and a cascade's models are networks "
            f"of their own; {_TAKE}"
        )


def check_family(name: str, models: int, num_labels: int) -> None:
    """Refuse a family of policies none of which lets a model of the chain be left out.

    Args:
        name: of the policy.
        models: how many there are.
        num_labels: C.

    Raises:
        UsageError: as `check_rule`; or every setting waits for the last model, as patience does with two.
    """
    grid = get(name).grid(models, num_labels)
    check_rule(grid[0])
    if min(policy.soonest(models) for policy in grid) >= models:
        raise UsageError(f"exit policy {name!r} lets no text leave before the last of {models} models; {_TAKE}")


def check_members(models: Sequence[Classifier]) -> None:
    """Refuse a model that would be asked what it has said already.

    The same weights in another precision, or on another backend, answer differently and cheaper, and so may stand
    before themselves.

    Raises:
        UsageError: two models have the same weights, precision and backend.
    """
    seen: dict[tuple[str, str, str], int] = {}
    for number, model in enumerate(models, start=1):
        key = (model.weights_digest or model.name, model.dtype, model.backend)
        first = seen.setdefault(key, number)
        if first != number:
            raise UsageError(
                f"models {first} and {number} of the cascade are the same, {model.name!r}: it would only be asked "
                "twice; name models that differ"
            )
