"""Progress where stderr is not a terminal, and where it is one."""

import io
import re
import sys

import pytest

from vis_core.cli.progress import progress, reading, track


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_lines_where_there_is_no_terminal(capsys):
    with progress("counting", 4, "things", interval=0.0) as advance:
        assert list(track("abcd", advance)) == list("abcd")
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == "" and len(lines) == 4
    assert re.fullmatch(r"counting: 2/4 things, [\d.]+ things/s, \d:\d\d left", lines[1])
    assert re.fullmatch(r"counting: 4/4 things, [\d.]+ things/s", lines[-1])


def test_a_bar_on_a_terminal_goes_to_stderr(monkeypatch, capsys):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with progress("counting", 4, "things") as advance:
        advance(4)
    assert "counting" in terminal.getvalue() and "4/4" in terminal.getvalue() and "\x1b[" in terminal.getvalue()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("make", [io.StringIO, Terminal])
def test_reading_a_large_file_is_said(make, monkeypatch, tmp_path):
    file = tmp_path / "large.json"
    file.write_bytes(b" " * 1000)
    stream = make()
    monkeypatch.setattr(sys, "stderr", stream)
    with reading(file):
        pass
    assert stream.getvalue() == ""
    with reading(file, least=1000):
        pass
    assert re.search(r"reading .*large.json \(0 MB\): 0\.\d s", stream.getvalue())


def test_nothing_is_said_of_a_file_that_is_not_there(tmp_path, capsys):
    with reading(tmp_path / "none.json", least=0):
        pass
    assert capsys.readouterr().err == ""
