"""Wall-clock races against peers: every system in a process of its own, in turns, on the same texts and threads."""

from elbert.evaluation.bench.job import Job, Plan, Spec
from elbert.evaluation.bench.rows import Row
from elbert.evaluation.bench.run import Bench, race
from elbert.evaluation.bench.systems import PEERS, line_up

__all__ = ["PEERS", "Bench", "Job", "Plan", "Row", "Spec", "line_up", "race"]
