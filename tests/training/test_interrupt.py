"""A real Ctrl-C, sent to a real process."""

from __future__ import annotations

import signal
import subprocess

from tests.training.conftest import train_command


def test_ctrl_c_saves_says_how_to_go_on_and_ends_with_130(tmp_path, tiny_texts):
    command = train_command(tmp_path, tiny_texts, epochs=100_000)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        seen = ""
        while "epoch 1 of" not in seen:  # training is under way
            seen += process.stderr.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=600)
    assert process.returncode == 130
    assert out == ""
    assert "Traceback" not in err
    last = err.strip().splitlines()[-1]
    assert last.startswith("elbert: stopped at step")
    assert last.endswith("run the same command with --resume to go on")
    assert not (tmp_path / "out").exists()
    (checkpoint, *_) = (tmp_path / "out.partial" / "checkpoints").iterdir()
    assert (checkpoint / "model.safetensors").is_file()
