"""smolcli/terminal/progress.py: the lines in a log; tests/pipeline/test_many_inputs.py has those on a terminal."""

from __future__ import annotations

import time

import pytest

from smolcli.terminal.console import Console
from smolcli.terminal.progress import Progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_a_log_has_one_line_a_minute(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    progress_line = Progress(Console(), iter([(1, 10), (600, 5_000_000)]))
    progress_line.survey_thread.join()
    for number in range(240):  # two a second for two minutes, ten tokens each; the first ten are skipped
        clock[0] += 0.5
        if number < 10:
            progress_line.skip("old.png")
        else:
            progress_line.record(f"{number}.png", 10, failed=number % 100 == 0)
    progress_line.close()
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "smolcli: 120 of 600 (5.0 MB) done, 1.83 a second, 0:04:22 left, 1 failed, 18 tokens/s, 119.png",
        "smolcli: 240 of 600 (5.0 MB) done, 1.92 a second, 0:03:08 left, 2 failed, 19 tokens/s, 239.png",
    ]


def test_without_a_total_no_time_left_is_shown(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    progress_line = Progress(Console(), iter([]))
    clock[0] += 61
    progress_line.record("two\nlines.png", 0, failed=False)
    assert capsys.readouterr().err == "smolcli: 1 done, 0.02 a second, 0 failed, 0 tokens/s, two\\nlines.png\n"


def test_a_quiet_console_prints_nothing(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    progress_line = Progress(Console(quiet=True), iter([]))
    clock[0] += 61
    progress_line.record("a.png", 0, failed=False)
    assert capsys.readouterr() == ("", "")


def test_the_notes_and_frames_of_a_video_are_shown(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    progress_line = Progress(Console(), iter([(1, 10)]))
    progress_line.survey_thread.join()
    progress_line.show_video_progress("film.mp4", 0, 12, 96)
    clock[0] += 90
    progress_line.show_video_progress("film.mp4", 3, 12, 96)
    clock[0] += 90
    progress_line.show_video_progress("clip.gif", 0, 1, 8)
    assert capsys.readouterr().err.splitlines() == [
        "smolcli: 0 of 1 (0.0 MB) done, 0.00 a second, 0 failed, 0 tokens/s, film.mp4 (3 of 12 notes, 96 frames)",
        "smolcli: 0 of 1 (0.0 MB) done, 0.00 a second, 0 failed, 0 tokens/s, clip.gif (8 frames)",
    ]
