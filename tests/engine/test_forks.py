"""A process forked from one that has loaded a model: told so where torch's threads did not come along."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CHILD = """
import os, signal, sys, torch
from transformers import AlbertConfig, AlbertForSequenceClassification
from elbert.engine import Arrival, Engine
from elbert.errors import ElbertError
from elbert.exits import make
from elbert.modeling.model import MultiExitModel

torch.set_num_threads(2)
config = AlbertConfig(vocab_size=50, embedding_size=16, hidden_size=64, num_attention_heads=4, intermediate_size=64)
weights = MultiExitModel(AlbertForSequenceClassification(config).eval()).eval().weights()
engine = Engine(weights)
texts = [Arrival(index, [1, 2, 3] * 20) for index in range(8)]

def answers(engine):
    return sum(len(group.index) for group in engine.run(texts, make("full")))

assert answers(engine) == 8
child = os.fork()
if child == 0:
    signal.alarm(120)  # rather than waiting for ever
    try:
        if sys.argv[1] == "one":
            torch.set_num_threads(1)
        print(answers(Engine(weights) if sys.argv[1] == "anew" else engine))
    except ElbertError as error:
        print(error)
    sys.stdout.flush()
    os._exit(0)
os.waitpid(child, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize(
    ("how", "said"),
    [("same", "forked from one that had loaded a model"), ("anew", "multiprocessing's 'spawn'"), ("one", "8")],
)
def test_a_forked_child_is_told_instead_of_waiting_for_ever(how: str, said: str) -> None:
    done = subprocess.run([sys.executable, "-c", CHILD, how], capture_output=True, text=True, timeout=600, check=True)
    (line,) = done.stdout.splitlines()
    assert said in line
