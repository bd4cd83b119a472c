"""Policies that learn while they serve: what exits said of the texts that a bandit let go, and where that is kept."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from elbert.classifier import Classifier
from elbert.disk import ANOTHER_FOLDER, write_errors
from elbert.engine.rows.packed import Rows
from elbert.errors import ElbertError, UsageError
from elbert.exits import ExitPolicy
from elbert.exits.bandit import Bandit, OnlineBandit
from elbert.modeling.files.policies import read_tensors, write_tensors
from elbert.results import ExitOutput
from elbert.serving.rows import Answer, Row
from elbert.tasks import reading, task_of

_log = logging.getLogger("elbert.serving")

# Texts whose confidences are held at most: more than run at once; nobody asks for those of cancelled ones.
_MOST = 1024


class Learner:
    """One policy that learns: its newest state, and the policy that new texts get.

    A text is decided on by its threshold alone, so texts get the same object while that stays, and share a step.

    Args:
        policy: to begin with.
    """

    def __init__(self, policy: Bandit) -> None:
        self._online = OnlineBandit(policy)
        self._in_use = {policy.threshold: policy}
        self.policy = policy

    @property
    def newest(self) -> Bandit:
        """All that was learnt so far."""
        return self._online.policy

    def observe(self, confidences: Sequence[float]) -> None:
        """Learn from a text that has left; called by any thread."""
        self._online.observe(confidences)
        newest = self._online.policy
        self.policy = self._in_use.setdefault(newest.threshold, newest)

    def owns(self, policy: ExitPolicy) -> bool:
        """Tell whether this learner gave a policy out."""
        return any(policy is each for each in self._in_use.values())


class Learning:
    """The bandit policies kept with one model, by name, which texts go on teaching.

    A policy that a request brings as JSON is used as it is. Texts are written down, and teach, in the worker's thread;
    the event loop only asks for the policy in use.

    Args:
        classifier: the model.
        folder: where what was learnt is read from, and written to; None to begin anew and forget it.

    Raises:
        ElbertError: what lies in the folder cannot be read, or is of another model.
    """

    def __init__(self, classifier: Classifier, folder: Path | None) -> None:
        self._kind, self._folder = classifier.problem_type, folder
        kept = {name: each for name, each in classifier.policies.items() if isinstance(each, Bandit)}
        if folder is not None and kept:
            with write_errors(f"the folder {folder} of what policies learn", ANOTHER_FOLDER):
                folder.mkdir(parents=True, exist_ok=True)  # now, and not when all is learnt
        elif folder is not None:
            _log.warning("model %s has no bandit policy, so nothing is kept in %s", folder.name, folder.parent)
        tensors = {} if folder is None else read_tensors(folder)
        self._kept = list(kept.values())
        self._learners: dict[str, Learner] = {}
        for name, policy in kept.items():
            before = tensors.get(name)
            begun = policy if before is None else policy.with_tensors(before)
            if int(begun.weights["layers"]) != classifier.num_layers:
                raise UsageError(
                    f"what policy {name!r} has learnt is of a model of {int(begun.weights['layers'])} layers, this one "
                    f"has {classifier.num_layers}: name another --policy-state, or remove it from {folder}"
                )
            self._learners[name] = Learner(begun)
        self._sure: OrderedDict[int, list[float]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._learners)

    def newest(self, policy: ExitPolicy) -> ExitPolicy:
        """Return what a kept policy has become; any other as it is."""
        for kept, learner in zip(self._kept, self._learners.values(), strict=True):
            if policy is kept:
                return learner.policy
        return policy

    def write(self, rows: Rows, logits: Tensor, pooled: Tensor) -> None:
        """Note how sure the exits just were of the rows that a learner decides on."""
        del pooled
        said = logits.cpu().numpy()
        output = ExitOutput(task_of(self._kind).probabilities(said), said, None, self._kind)
        sure = np.nan_to_num(reading(output).confidence(output.probs), nan=0.0, posinf=0.0, neginf=0.0)
        for number, group in enumerate(rows.memory.groups):
            if not any(learner.owns(group.policy) for learner in self._learners.values()):
                continue
            for place in np.flatnonzero(rows.memory.member == number).tolist():
                seen = self._sure.setdefault(int(rows.index[place]), [])
                del seen[int(rows.depth[place]) - 1 :]  # of a layer that is run again
                seen.append(float(sure[place]))
        while len(self._sure) > _MOST:
            self._sure.popitem(last=False)

    def left(self, rows: Sequence[Row]) -> None:
        """Let the texts that were answered teach the policy that let them go."""
        for row in rows:
            sure = self._sure.pop(row.index, None)
            if sure is None or not isinstance(row.outcome, Answer) or row.arrival.policy is None:
                continue
            for learner in self._learners.values():
                if learner.owns(row.arrival.policy):
                    learner.observe(sure)

    def save(self) -> None:
        """Write what was learnt into the folder, where there is one; a full disk is told in the log."""
        if self._folder is None or not self._learners:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_tensors(self._folder, {name: each.newest.tensors() for name, each in self._learners.items()})
        except (OSError, ElbertError) as error:
            _log.error("what the policies learnt was not written to %s: %s", self._folder, error)
