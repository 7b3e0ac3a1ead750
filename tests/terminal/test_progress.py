"""smolcli/terminal/progress.py: the lines in a log; test_status_line.py has the line on a terminal."""

from __future__ import annotations

import signal
import time

import pytest

from smolcli.pipeline.signals import printed_on_signal
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
            progress_line.show()
    progress_line.close()
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "smolcli: 120 of 600 (5.0 MB), 0:01:00, 1.8 pictures/s, 1 failed, 18 tokens/s, 119.png",
        "smolcli: 240 of 600 (5.0 MB), 0:02:00, 1.9 pictures/s, 0:03:08 left, 2 failed, 19 tokens/s, 239.png",
    ]


def test_without_a_total_no_time_left_is_shown(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    progress_line = Progress(Console(), iter([]))
    clock[0] += 61
    progress_line.record("two\nlines.png", 0, failed=False)
    progress_line.show()
    expected = "smolcli: 1 done, 0:01:01, 61.0 s a picture, 0 failed, 0 tokens/s, two\\nlines.png\n"
    assert capsys.readouterr().err == expected


def test_a_quiet_console_prints_nothing(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    progress_line = Progress(Console(quiet=True), iter([]))
    clock[0] += 61
    progress_line.record("a.png", 0, failed=False)
    progress_line.show()
    progress_line.print()
    assert capsys.readouterr() == ("", "")


def test_the_notes_and_frames_of_a_video_are_shown(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    progress_line = Progress(Console(), iter([(1, 10)]))
    progress_line.survey_thread.join()
    progress_line.show_video_progress("film.mp4", 0, 12, 96)
    clock[0] += 90
    progress_line.show_video_progress("film.mp4", 3, 12, 96)
    clock[0] += 90
    progress_line.show_video_progress("clip.gif", 0, 1, 8)
    clock[0] += 90
    progress_line.show_page_progress("book.pdf", 12, 5000)
    assert capsys.readouterr().err.splitlines() == [
        "smolcli: 0 of 1 (0.0 MB), 0:01:30, film.mp4 (3 of 12 notes, 96 frames)",
        "smolcli: 0 of 1 (0.0 MB), 0:03:00, clip.gif (8 frames)",
        "smolcli: 0 of 1 (0.0 MB), 0:04:30, book.pdf (page 12 of 5,000)",
    ]


def test_the_time_left_is_told_from_two_minutes(clock: list[float]) -> None:
    progress_line = Progress(Console(), iter([(10, 0)]), "video")
    progress_line.survey_thread.join()
    clock[0] += 119
    progress_line.record("a.mp4", 0, failed=False)
    assert progress_line.describe() == "1 of 10, 0:01:59, 119.0 s a video, 0 failed, 0 tokens/s, a.mp4"
    clock[0] += 1
    assert "120.0 s a video, 0:18:00 left" in progress_line.describe()


def test_a_signal_has_the_progress_printed_and_nothing_else_changes(capsys: pytest.CaptureFixture[str]) -> None:
    handler = signal.getsignal(signal.SIGUSR1)
    progress_line = Progress(Console(), iter([]))
    with printed_on_signal(progress_line):
        signal.raise_signal(signal.SIGUSR1)
    assert capsys.readouterr().err == "smolcli: 0 done, 0:00:00\n"
    assert signal.getsignal(signal.SIGUSR1) == handler
