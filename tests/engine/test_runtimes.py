from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# Two models come, and go in the same order, as when a server loads its models anew; then a signal is handled.
COME_AND_GO = """
import faulthandler, gc, os, signal, sys
from pathlib import Path

import torch

from elbert.engine.backends.runtimes import openvino
from elbert.export.runner import RUNTIMES

faulthandler.enable()  # gives signal handlers a stack of their own, as pytest does
signal.signal(signal.SIGTERM, lambda *_: print("handled"))
path = Path(sys.argv[1])
loads = {
    "engine": lambda: openvino()(path, ("y",), torch.float32),
    "runner": lambda: RUNTIMES["openvino"](path, ["y"], "float32"),
}
first, second = (loads[sys.argv[2]]() for _ in range(2))
del first
gc.collect()
del second
gc.collect()
os.kill(os.getpid(), signal.SIGTERM)
"""


@pytest.mark.parametrize("where", ["engine", "runner"])
def test_a_signal_is_handled_after_openvino_has_let_models_go(tmp_path: Path, where: str) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("openvino")
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["rows", 4]) for name in "xy"]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "graph", values[:1], values[1:])
    opset = [onnx.helper.make_opsetid("", 18)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=9), str(tmp_path / "graph.onnx"))
    words = [sys.executable, "-c", COME_AND_GO, str(tmp_path / "graph.onnx"), where]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr
