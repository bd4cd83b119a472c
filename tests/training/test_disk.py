"""A disk that fills up costs one clear line and leaves the last good state."""

from __future__ import annotations

import errno
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import SafetensorError

from elbert.disk import whole_folder, write_errors
from elbert.errors import ElbertError, UsageError
from elbert.training import checkpoint
from tests.training.conftest import same_weights, train_command


def full(*_args, **_kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_disk_full_at_the_first_checkpoint_leaves_nothing(fine_tune, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "save", full)
    with pytest.raises(ElbertError, match=r"cannot write checkpoint .*: No space left on device; free some space") as e:
        fine_tune(tmp_path / "model")
    assert "\n" not in str(e.value)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_full_at_a_later_checkpoint_can_be_resumed(fine_tune, tmp_path, monkeypatch):
    fine_tune(tmp_path / "whole")
    save, calls = checkpoint.save, []

    def second_fails(folder, *args):
        calls.append(folder)
        save(folder, *args)
        if len(calls) == 2:
            full()

    monkeypatch.setattr(checkpoint, "save", second_fails)
    with pytest.raises(ElbertError, match="No space left"):
        fine_tune(tmp_path / "model")
    assert [path.name for path in (tmp_path / "model.partial" / "checkpoints").iterdir()] == ["checkpoint-7"]
    fine_tune(tmp_path / "model", resume=True)
    assert same_weights(tmp_path / "whole", tmp_path / "model")


def test_a_disk_full_while_the_model_is_written_leaves_no_half_model(fine_tune, tmp_path, monkeypatch):
    monkeypatch.setattr("elbert.training.run.shutil.copyfile", full)
    with pytest.raises(ElbertError, match=r"cannot write the model .*--resume"):
        fine_tune(tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model.partial"]
    monkeypatch.undo()
    assert fine_tune(tmp_path / "model", resume=True).steps == 14


def test_a_model_that_was_there_survives_a_disk_that_fills_up(fine_tune, tmp_path, monkeypatch):
    fine_tune(tmp_path / "model")
    before = (tmp_path / "model" / "model.safetensors").read_bytes()
    monkeypatch.setattr("elbert.training.run.shutil.copyfile", full)
    with pytest.raises(ElbertError):
        fine_tune(tmp_path / "model", overwrite=True)
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == before


def limit_file_size():
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits")
def test_a_real_limit_on_what_may_be_written_is_one_line(tmp_path, tiny_texts):
    command = train_command(tmp_path, tiny_texts, epochs=1)
    done = subprocess.run(command, preexec_fn=limit_file_size, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("elbert: cannot write checkpoint")
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["data.jsonl"]


def write_and_break(folder):
    with whole_folder(folder) as fresh:
        (fresh / "a").write_text("new")
        raise RuntimeError("broken")


def test_whole_folder_keeps_the_old_one_where_the_new_one_fails(tmp_path):
    folder = tmp_path / "f"
    with whole_folder(folder) as fresh:
        (fresh / "a").write_text("old")
    with pytest.raises(RuntimeError, match="broken"):
        write_and_break(folder)
    assert (folder / "a").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_whole_folder_that_fails_leaves_none_of_the_folders_made_for_it(tmp_path):
    with pytest.raises(RuntimeError, match="broken"):
        write_and_break(tmp_path / "new" / "newer" / "f")
    assert list(tmp_path.iterdir()) == []
    with whole_folder(tmp_path / "new" / "f") as fresh:
        (fresh / "a").write_text("new")
    assert (tmp_path / "new" / "f" / "a").read_text() == "new"


def test_whole_folder_replaces_and_clears_what_a_kill_left(tmp_path):
    for leftover in (".f.new", ".f.old", "f"):
        (tmp_path / leftover).mkdir()
        (tmp_path / leftover / "stale").write_text("")
    with whole_folder(tmp_path / "f") as fresh:
        (fresh / "a").write_text("new")
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()] == [Path("f/a")]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        Exception("No space left on device (os error 28)"),
    ],
)
def test_every_librarys_way_of_saying_disk_full_is_understood(error):
    with (
        pytest.raises(ElbertError, match=r"cannot write it: .*No space left on device.*; tidy up"),
        write_errors("it", "tidy up"),
    ):
        raise error


def test_other_errors_pass_through():
    for error in (KeyError("x"), UsageError("x"), Exception("something else")):
        with pytest.raises(type(error)), write_errors("it", "tidy up"):
            raise error


def test_whole_folder_puts_back_what_a_kill_between_its_renames_left_under_another_name(tmp_path):
    (tmp_path / ".f.old").mkdir()
    (tmp_path / ".f.old" / "a").write_text("old")
    with pytest.raises(RuntimeError, match="broken"):
        write_and_break(tmp_path / "f")
    assert (tmp_path / "f" / "a").read_text() == "old"
