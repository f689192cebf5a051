from __future__ import annotations

import io

import pytest

from progress import Lines, shown


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def work(stream: io.StringIO) -> str:
    with shown(stream) as tell:
        for done in range(0, 1_001, 10):
            tell("counting", done, 1_000)
        tell("looking", 3, 0)
    return stream.getvalue()


def test_a_file_gets_one_plain_line_for_a_short_work() -> None:
    assert work(io.StringIO()) == "counting: 1,000 of 1,000, 0 s\n"


def test_a_terminal_gets_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    said = work(Terminal())
    assert "1000/1000" in said
    assert "looking" in said
    assert "\x1b[" in said


def test_a_dumb_terminal_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert work(Terminal()) == "counting: 1,000 of 1,000, 0 s\n"


def test_no_color_takes_the_colours_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[3" not in work(Terminal())


def test_long_work_gets_a_line_now_and_then_and_ever_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("progress.time.monotonic", lambda: now)
    stream = io.StringIO()
    tell = Lines(stream)
    for second in range(601):
        now = float(second)
        tell("counting", second, 0)
    lines = stream.getvalue().splitlines()
    assert lines[:2] == ["counting: 3, 3 s", "counting: 6, 6 s"]
    assert 20 <= len(lines) <= 40


def test_the_end_is_told_once() -> None:
    stream = io.StringIO()
    tell = Lines(stream)
    for _ in range(3):
        tell("counting", 5, 5)
    tell("reading", 1, 1)
    assert stream.getvalue().splitlines() == ["counting: 5 of 5, 0 s", "reading: 1 of 1, 0 s"]
