from __future__ import annotations

import errno
import io
import math
import re
from pathlib import Path

import pytest

from elbert.cli.console import check_output, facts, json_line, show
from elbert.cli.options import parse_settings
from elbert.disk import whole_file
from elbert.errors import ElbertError, ModelError, UsageError
from elbert.reports.tables import plain, table


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_json_never_holds_nan_or_infinity(value: float) -> None:
    with pytest.raises(ModelError, match="NaN or infinity"):
        json_line({"score": [value]})


def test_json_keeps_words_readable() -> None:
    assert json_line({"label": "schön"}) == '{"label": "schön"}'


def test_a_table_has_its_second_column_aligned() -> None:
    assert plain(facts([("a", "1"), ("long", "2")])) == "a     1\nlong  2"


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_table_is_plain_text_of_any_width_for_programs_and_fits_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    made = table([("drop-1", "0.8860", "a promise " * 9)], ("policy", "score", "what [b]it[/b] promises"), prose=True)
    program, terminal = io.StringIO(), _Terminal()
    for stream in (program, terminal):
        monkeypatch.setattr("sys.stdout", stream)
        show(made, "and a line", err=False)
    head, row, line = program.getvalue().splitlines()
    assert row == "drop-1  0.8860  " + ("a promise " * 9).strip()
    assert "[b]it[/b]" in head  # nothing in a table is markup
    assert line == "and a line"
    shown = terminal.getvalue().splitlines()
    assert len(shown) > 4
    assert all(len(re.sub("\x1b\\[[0-9;]*m", "", each).rstrip()) <= 40 for each in shown)


def test_numbers_are_never_broken_however_narrow_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    terminal = _Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    show(table([[f"{place}.1234567" for place in range(6)]], words=0), err=False)
    assert all(f"{place}.1234567" in terminal.getvalue() for place in range(6))


def test_settings_are_json_where_they_can_be_and_words_otherwise() -> None:
    words = ["a=1", "b=0.5", "c=false", "d=monotone", "e=[1, 2]", "f=x=y"]
    assert parse_settings(words) == {"a": 1, "b": 0.5, "c": False, "d": "monotone", "e": [1, 2], "f": "x=y"}


@pytest.mark.parametrize("word", ["layer", "=3", ""])
def test_a_setting_without_name_or_value_is_refused(word: str) -> None:
    with pytest.raises(UsageError, match="NAME=VALUE"):
        parse_settings([word])


def test_a_file_takes_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    path.write_text("before")
    with pytest.raises(ValueError, match="half"), whole_file(path) as stream:
        stream.write(str(int("half")))
    assert path.read_text() == "before"
    with whole_file(path) as stream:
        stream.write("whole")
        stream.flush()
        assert path.read_text() == "before"
    assert path.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    target, link = tmp_path / "target.txt", tmp_path / "link.txt"
    target.write_text("before")
    link.symlink_to(target)
    with whole_file(link) as stream:
        stream.write("after")
    assert link.is_symlink()
    assert target.read_text() == "after"


def test_a_file_is_not_called_by_the_word_for_standard_output() -> None:
    with pytest.raises(UsageError, match="not to standard output"):
        check_output(Path("-"), overwrite=True)


def test_a_folder_that_cannot_be_written_to_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(**_: object) -> None:  # the superuser may write wherever the tests could forbid it
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("elbert.cli.console.TemporaryFile", forbidden)
    with pytest.raises(UsageError, match=r"'.*new\.csv': the folder .* is not writable \(Permission denied\); name an"):
        check_output(tmp_path / "new.csv", overwrite=False)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc here")
def test_a_folder_that_takes_no_files_whoever_asks_is_refused_before_any_work() -> None:
    with pytest.raises(UsageError, match=r"'/proc/new\.csv': the folder '/proc' is not writable \("):
        check_output(Path("/proc/new.csv"), overwrite=False)


def test_a_file_that_cannot_be_made_is_called_by_its_own_name_and_told_where_else_to_go(tmp_path: Path) -> None:
    path = tmp_path / "gone" / "out.txt"
    with pytest.raises(ElbertError) as raised, whole_file(path):
        pass
    assert (
        str(raised.value) == f"cannot write '{path}': No such file or directory; name a place where files can be made"
    )


def test_an_output_beside_others_is_free(tmp_path: Path) -> None:
    check_output(tmp_path / "new.csv", overwrite=False)
