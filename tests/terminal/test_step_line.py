"""smolcli/terminal/step_line.py: a step with its clock on a terminal, and nothing elsewhere."""

from __future__ import annotations

import io

import pytest

from smolcli.terminal.console import Console
from smolcli.terminal.step_line import StepLine


class Terminal(io.StringIO):
    """A standard error that is a terminal."""

    def isatty(self) -> bool:
        return True


def on_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Call it in the test: between the fixtures and the test pytest sets standard error anew."""
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    return terminal


def test_a_step_has_its_own_clock_and_is_taken_away_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, now = on_terminal(monkeypatch), 100.0
    monkeypatch.setattr("smolcli.terminal.step_line.time.monotonic", lambda: now)
    console = Console()
    line = StepLine(console)
    assert line.describe() == ""
    line.begin("tiny: running PyTorch")
    now += 12.3
    assert line.describe() == "tiny: running PyTorch, 0:00:12"
    line.begin("tiny.gguf: running llama.cpp")
    assert line.describe() == "tiny.gguf: running llama.cpp, 0:00:00"
    assert terminal.getvalue().endswith("\r\x1b[Ktiny.gguf: running llama.cpp, 0:00:00")
    line.close()
    assert terminal.getvalue().endswith("\r\x1b[K") and console.status_line is None


def test_nothing_is_drawn_without_a_terminal_or_where_it_is_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_terminal(monkeypatch)
    StepLine(Console(), is_shown=False).begin("a step")
    assert terminal.getvalue() == ""
    monkeypatch.setattr("sys.stderr", log := io.StringIO())
    line = StepLine(Console())
    line.begin("a step")
    line.close()
    assert log.getvalue() == ""
