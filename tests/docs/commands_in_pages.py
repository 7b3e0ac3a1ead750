"""The commands that the pages of the documentation show."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from smolcli.cli.main import make_command

FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)


def commands(page: Path, program: str) -> Iterator[list[str]]:
    """The words of every command of `program` in the page's shell fences and code spans."""
    text = page.read_text(encoding="utf-8")
    fences = [code.replace("\\\n", " ") for kind, code in FENCE.findall(text) if kind in ("sh", "console")]
    lines = [line for code in fences for line in code.splitlines()]
    for line in (*lines, *re.findall(r"`([^`\n]+)`", FENCE.sub("", text))):
        for part in re.split(r"&&|\||;(?: do)?", line.removeprefix("$ ")):
            if part.split()[:1] == [program]:
                try:
                    yield shlex.split(part, comments=True)
                except ValueError:  # a quotation that goes on behind a | or on the next line
                    yield part.split()


@cache
def command(name: str) -> Any:
    """The command of this name, with its options."""
    return make_command(name)
