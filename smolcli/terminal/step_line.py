"""The step that runs, and for how long, in a line at the bottom of the terminal: for work whose end is not known."""

from __future__ import annotations

import time
from threading import Thread

from smolcli.terminal.console import Console
from smolcli.terminal.status_line import StatusLine, may_be_shown
from smolcli.terminal.words import format_duration


class StepLine:
    """Shows the step that was begun last, as `tuned.gguf: running llama.cpp, 0:00:12`; nothing where no line may be.

    with contextlib.closing(StepLine(console)) as line:
        line.begin("tuned.gguf: running llama.cpp")
    """

    def __init__(self, console: Console, is_shown: bool = True) -> None:
        self._console = console
        self._step, self._begun_at = "", 0.0
        self._line = StatusLine(self.describe) if is_shown and may_be_shown(None) else None
        if self._line is not None:
            console.status_line = self._line
            Thread(target=self._line.keep_clock_going, daemon=True).start()

    def begin(self, step: str) -> None:
        """Show another step, from now on."""
        self._step, self._begun_at = step, time.monotonic()
        if self._line is not None:
            self._line.draw()

    def describe(self) -> str:
        """The step and how long it has run; empty before the first one."""
        if not self._step:
            return ""
        return f"{self._step}, {format_duration(time.monotonic() - self._begun_at)}"

    def close(self) -> None:
        """Remove the line."""
        if self._line is not None:
            self._line.close()
            self._console.status_line = None
