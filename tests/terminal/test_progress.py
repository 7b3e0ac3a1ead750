"""terminal/progress.py: what a log is told; tests/pipeline/test_many_inputs.py sees the line of a terminal."""

from __future__ import annotations

import pytest

from smolcli.terminal import progress
from smolcli.terminal.console import Console
from smolcli.terminal.progress import Progress


@pytest.fixture
def format_time(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_log_has_one_line_a_minute(format_time: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    shown = Progress(Console(), iter([(1, 10), (600, 5_000_000)]))
    shown.counting.join()
    for number in range(240):  # two a second for two minutes, ten tokens each, the first ten done before
        format_time[0] += 0.5
        if number < 10:
            shown.skip("old.png")
        else:
            shown.record(f"{number}.png", 10, failed=number % 100 == 0)
    shown.close()
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "smolcli: 120 of 600 (5.0 MB) done, 1.83 a second, 0:04:22 left, 1 failed, 18 tokens/s, 119.png",
        "smolcli: 240 of 600 (5.0 MB) done, 1.92 a second, 0:03:08 left, 2 failed, 19 tokens/s, 239.png",
    ]


def test_what_cannot_be_counted_has_no_end_in_sight(
    format_time: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    shown = Progress(Console(), iter([]))
    format_time[0] += 61
    shown.record("two\nlines.png", 0, failed=False)
    assert capsys.readouterr().err == "smolcli: 1 done, 0.02 a second, 0 failed, 0 tokens/s, two\\nlines.png\n"


def test_a_quiet_console_says_nothing(format_time: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    shown = Progress(Console(quiet=True), iter([]))
    format_time[0] += 61
    shown.record("a.png", 0, failed=False)
    assert capsys.readouterr() == ("", "")


def test_of_a_video_its_notes_and_frames_are_told(format_time: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    shown = Progress(Console(), iter([(1, 10)]))
    shown.counting.join()
    shown.part("film.mp4", 0, 12, 96)
    format_time[0] += 90
    shown.part("film.mp4", 3, 12, 96)
    format_time[0] += 90
    shown.part("clip.gif", 0, 1, 8)
    assert capsys.readouterr().err.splitlines() == [
        "smolcli: 0 of 1 (0.0 MB) done, 0.00 a second, 0 failed, 0 tokens/s, film.mp4 (3 of 12 notes, 96 frames)",
        "smolcli: 0 of 1 (0.0 MB) done, 0.00 a second, 0 failed, 0 tokens/s, clip.gif (8 frames)",
    ]
