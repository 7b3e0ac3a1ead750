"""smolcli/terminal/status_line.py: after every write to a terminal the progress line stands below all else there."""

from __future__ import annotations

import fcntl
import io
import json
import os
import random
import re
import struct
import sys
import termios
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread, current_thread
from types import SimpleNamespace

import pytest

from smolcli.errors import ErrorKind
from smolcli.records.sink import RecordSink
from smolcli.terminal import console, status_line
from smolcli.terminal.console import Console
from smolcli.terminal.progress import Progress
from smolcli.terminal.stdout import AnswerStream
from smolcli.types import Fault
from smolcli.writers.destination import destination
from smolcli.writers.json_lines import Json, JsonLines
from smolcli.writers.text import Text
from tests.helpers import RECORD

pty = pytest.importorskip("pty")
COLUMNS = 60


class Terminal:
    """Notes each write to it, and what its screen then shows; knows CR, LF, EL, CUU and CHA (ECMA-48)."""

    def __init__(self) -> None:
        self.fileno, self._other_end = pty.openpty()
        fcntl.ioctl(self.fileno, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
        self.writes: list[str] = []
        self.lines = [""]
        self.row = self.column = 0  # of the cursor

    def stream(self) -> io.FileIO:
        terminal = self

        class File(io.FileIO):
            def write(self, data: object) -> int:
                chunk = bytes(data)  # type: ignore[call-overload]
                terminal.show(chunk.decode())
                return len(chunk)

        return File(self.fileno, "w", closefd=False)

    def show(self, text: str) -> None:
        self.writes.append(text)
        for part in re.findall(r"\x1b\[\d*[A-Z]|\r|\n|[^\x1b\r\n]+", text):
            line = self.lines[self.row]
            if part == "\n":
                self.row, self.column = self.row + 1, 0
                self.lines += [""] * (self.row == len(self.lines))
            elif part == "\r":
                self.column = 0
            elif part == "\x1b[K":
                self.lines[self.row] = line[: self.column]
            elif part == "\x1b[A":
                self.row -= 1
            elif part.endswith("G"):
                self.column = int(part[2:-1]) - 1
            else:
                self.lines[self.row] = line[: self.column] + part + line[self.column + len(part) :]
                self.column += len(part)

    def close(self) -> None:
        os.close(self.fileno)
        os.close(self._other_end)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """A terminal that standard error is, at a time that does not pass."""
    terminal = Terminal()
    stderr = io.TextIOWrapper(io.BufferedWriter(terminal.stream()), encoding="utf-8", line_buffering=True)
    for module in (console, status_line):  # pytest sets sys.stderr anew before each test
        monkeypatch.setattr(module, "sys", SimpleNamespace(stderr=stderr))
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    yield terminal
    terminal.close()


@pytest.fixture
def progress_line() -> Iterator[Callable[..., Progress]]:
    """Makes a progress line of 12 inputs."""
    opened = []

    def make(messages: Console, answers: AnswerStream | None = None) -> Progress:
        opened.append(Progress(messages, iter([(12, 3_000_000)]), answers=answers))
        opened[-1].survey_thread.join()
        return opened[-1]

    yield make
    for progress in opened:
        progress.close()


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("writer_class", [JsonLines, Json, Text])
def test_after_every_write_the_line_is_the_last_thing_on_the_screen(
    terminal: Terminal, progress_line: Callable[..., Progress], seed: int, writer_class: type
) -> None:
    chance = random.Random(seed)
    answers = AnswerStream(terminal.stream(), "standard output")
    messages = Console()
    progress = progress_line(messages, answers)
    sink = RecordSink(
        writer_class(answers, has_many=True, is_multiline=chance.random() < 0.5), messages, progress=progress
    )
    first_write = len(terminal.writes)
    paths = [f"{number}{chance.choice(['.png', '文字.png', 'long name ' * 20])}" for number in range(12)]
    for path in paths:
        match chance.randrange(4):
            case 0:
                messages.notice("nothing but\na notice")
                sink.skip(path)
            case 1:
                sink.write_record(RECORD.failed(Fault(ErrorKind.EMPTY, "has no bytes; give a picture")))
            case 2:
                sink.write_record(replace(RECORD, path=path, text="many words " * 900))
            case _:
                sink.write_record(replace(RECORD, path=path, text="a cat\nand a dog"))
    assert len(terminal.writes) > first_write
    screen = Terminal()
    for number, write in enumerate(terminal.writes):
        screen.show(write)
        assert " of 12 (3.0 MB)" in screen.lines[-1] or number < first_write, (number, write)
        assert len(screen.lines[-1]) < COLUMNS
    screen.close()
    progress.close()
    assert terminal.lines[terminal.row] in ("", "}" if writer_class is Json else "")
    assert not any("3.0 MB" in line for line in terminal.lines)


def test_a_record_and_the_line_that_counts_it_are_one_write(
    terminal: Terminal, progress_line: Callable[..., Progress]
) -> None:
    answers = AnswerStream(terminal.stream(), "standard output")
    messages = Console()
    sink = RecordSink(Text(answers, has_many=True), messages, progress=progress_line(messages, answers))
    for number in range(1, 4):
        terminal.writes.clear()
        sink.write_record(replace(RECORD, path=f"{number}.png", text="a cat"))
        assert terminal.writes[0] == f"\r\x1b[K{number}.png: a cat\n{number} of 12 (3.0 MB), 0:00:00, {number}.png"


def test_a_json_array_on_a_terminal_is_whole(terminal: Terminal, progress_line: Callable[..., Progress]) -> None:
    answers = AnswerStream(terminal.stream(), "standard output")
    messages = Console()
    progress = progress_line(messages, answers)
    with Json(answers, has_many=True) as writer:
        sink = RecordSink(writer, messages, progress=progress)
        for number in range(3):
            sink.write_record(replace(RECORD, path=f"{number}.png"))
            assert terminal.lines[-1].startswith(f"{number + 1} of 12")
            messages.notice("a notice")
        progress.close()
    shown = "\n".join(line for line in terminal.lines if line != "smolcli: a notice")
    assert [record["path"] for record in json.loads(shown)] == ["0.png", "1.png", "2.png"]


def test_records_in_a_file_leave_the_line_where_it_is(
    terminal: Terminal, progress_line: Callable[..., Progress], tmp_path: Path
) -> None:
    messages = Console()
    with destination(tmp_path / "r.jsonl", sys.stdout) as stream:
        sink = RecordSink(JsonLines(stream), messages, progress=progress_line(messages))
        for _ in range(5):
            sink.write_record(RECORD)
            assert "of 12" in terminal.lines[-1]
    assert len(terminal.lines) == 1
    assert "12" not in (tmp_path / "r.jsonl").read_text().splitlines()[0][:10]


def test_an_answer_that_is_shown_piece_by_piece_is_not_broken(
    terminal: Terminal, progress_line: Callable[..., Progress]
) -> None:
    answers = AnswerStream(terminal.stream(), "standard output")
    messages = Console()
    progress = progress_line(messages, answers)
    for piece in ("a red ", "circle", " and\n"):
        answers.write(piece)
        progress.show_video_progress("film.mp4", 1, 2, 8)
    assert terminal.lines == [
        "a red circle and",
        "0 of 12 (3.0 MB), 0:00:00, film.mp4 (1 of 2 notes, 8 frames)"[: COLUMNS - 1],
    ]


@pytest.mark.parametrize("answers_go_to", ["pipe", "file", "terminal", "nowhere"])
def test_no_line_where_the_reader_of_a_pipe_may_write_to_the_terminal(
    terminal: Terminal, progress_line: Callable[..., Progress], tmp_path: Path, answers_go_to: str
) -> None:
    reader, writer = os.pipe()
    files = {
        "pipe": lambda: io.FileIO(writer, "w", closefd=False),
        "file": lambda: io.FileIO(tmp_path / "out", "w"),
        "terminal": terminal.stream,
    }
    answers = AnswerStream(files[answers_go_to](), "standard output") if answers_go_to in files else None
    messages = Console()
    progress = progress_line(messages, answers)
    progress.record("a.png", 3, failed=False)
    progress.show()
    progress.close()
    assert ("of 12" in "".join(terminal.writes)) == (answers_go_to != "pipe")
    assert (terminal.writes == []) == (answers_go_to == "pipe")
    for fileno in (reader, writer):
        os.close(fileno)


def test_a_message_in_the_midst_of_a_count_waits_for_no_other_thread(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal handler prints while its own thread counts a record, and the thread of the clock draws the line."""
    messages, is_drawing = Console(), Event()
    line = Progress(messages, iter([]))
    describe, step = Progress.describe, Progress._step

    def interrupted_step(self: Progress, path: str) -> None:
        Thread(target=messages.status_line.draw, daemon=True).start()  # type: ignore[union-attr]
        is_drawing.wait(0.2)  # in vain where it must wait for the count
        messages.notice("a message")
        step(self, path)

    def noted_describe(self: Progress) -> str:
        if current_thread() is not counting:
            is_drawing.set()
        return describe(self)

    messages.status_line._render = lambda: noted_describe(line)  # type: ignore[union-attr]
    monkeypatch.setattr(Progress, "_step", interrupted_step)
    counting = Thread(target=line.record, args=("a.png", 3, False), daemon=True)
    counting.start()
    counting.join(10)
    assert not counting.is_alive()
    line.close()


def test_a_drawing_that_comes_after_the_end_writes_nothing(
    terminal: Terminal, progress_line: Callable[..., Progress]
) -> None:
    """As of the clock's thread, which waits for the lock while the line is closed; the shell's prompt may be there."""
    messages = Console()
    progress = progress_line(messages)
    line = messages.status_line
    assert line is not None
    with line.lock:
        drawing = Thread(target=line.draw)
        drawing.start()
        progress.close()
        terminal.show("$ ")
    drawing.join(10)
    line.draw()
    progress.close()
    assert terminal.lines == ["$ "]
    assert line.above("ls\n") == "ls\n"


def test_a_dumb_terminal_has_lines_only(
    terminal: Terminal, progress_line: Callable[..., Progress], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    progress_line(Console()).close()
    assert terminal.writes == []


def test_an_error_on_a_terminal_is_two_lines_and_elsewhere_one(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Console(quiet=True).error("a.png: no such\x1b[2J file", "check\nthe path")
    Console().error("no advice")
    assert terminal.lines == ["error: a.png: no such\\x1b[2J file", " hint: check the path", "error: no advice", ""]
    monkeypatch.delenv("NO_COLOR")
    Console().error("a", "b")
    assert terminal.writes[-1] == "\x1b[1;31merror:\x1b[0m a\n \x1b[1;36mhint:\x1b[0m b\n"
    monkeypatch.setattr(console, "sys", sys)
    Console().error("a.png: no such file", "check the path")
    assert capsys.readouterr().err == "smolcli: a.png: no such file; check the path\n"
