"""docs/contributing.md: each worked example of an extension does what the page says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]


class Example(NamedTuple):
    """One extension: its file, the registry line and table, and a command with its output."""

    path: str
    source: str
    table: str
    entry: str
    command: list[str]
    output: str


def examples() -> dict[str, Example]:
    """The sections under "Extend it", by their headings."""
    page = (ROOT / "docs" / "contributing.md").read_text(encoding="utf-8")
    examples = {}
    for section in page.split("\n## Extend it\n")[1].split("\n### ")[1:]:
        blocks = re.findall(r"^```(\w+)\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
        [source, entry, session] = [text for _, text in blocks]
        command, output = session.split("\n", 1)
        path = re.search(r"`(smolcli/\w+/\w+\.py)`:\n", section)
        table = re.search(r"The line, in `(\w+)`", section)
        assert path and table and command.startswith("$ smolcli "), section
        words = command.removeprefix("$ smolcli ").split()
        examples[section.split("\n", 1)[0]] = Example(path[1], source, table[1], entry, words, output)
    return examples


EXAMPLES = examples()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder with docs/ and a copy of the package, whose files are links to the real ones."""
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    shutil.copytree(
        ROOT / "smolcli", tmp_path / "smolcli", copy_function=os.symlink, ignore=shutil.ignore_patterns("__pycache__")
    )
    return tmp_path


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_does_what_the_page_says(name: str, package: Path) -> None:
    example = EXAMPLES[name]
    (package / example.path).write_text(example.source, encoding="utf-8")
    registry = package / "smolcli" / "registry.py"
    text = registry.read_text(encoding="utf-8")
    registry.unlink()
    registry.write_text(
        re.sub(rf"^{example.table}\b.*{{\n", rf"\g<0>{example.entry}", text, flags=re.MULTILINE), "utf-8"
    )
    done = subprocess.run(
        [sys.executable, "-m", "smolcli", *example.command],
        cwd=package,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.stdout, done.stderr, done.returncode) == (example.output, "", 0)


def test_every_example_has_a_file_of_its_own() -> None:
    assert [example.table for example in EXAMPLES.values()] == ["TASKS", "BACKENDS", "WRITERS"]
    assert not [example.path for example in EXAMPLES.values() if (ROOT / example.path).exists()]
