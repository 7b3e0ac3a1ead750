"""The site of docs/: its navigation has every page, its recipes parse, and it explains messages of the program."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from smolcli import registry
from tests.docs.commands_in_pages import command, commands

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
RECIPES = [words for name in ("index.md", "recipes.md") for words in commands(DOCS / name, "smolcli")]
OTHERS = ("(the shell)", "(pip)")  # who says a message that is not smolcli's


def test_every_page_is_in_the_navigation_once() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2].partition("\ntheme:")[0]
    assert sorted(re.findall(r": (\S+\.md)$", navigation, re.MULTILINE)) == sorted(
        page.name for page in DOCS.glob("*.md")
    )


@pytest.mark.parametrize("words", RECIPES, ids=" ".join)
def test_a_recipe_is_a_command_line_that_smolcli_takes(words: list[str]) -> None:
    _, name, *arguments = words
    chosen = command(name)
    if arguments and arguments[0] in getattr(chosen, "commands", {}):
        chosen = chosen.commands[arguments.pop(0)]
    chosen.make_context(name, [re.sub(r"\$\w+", "1", argument) for argument in arguments])  # raises where it does not


def test_the_recipes_are_found() -> None:
    tasks = {words[1] for words in RECIPES}
    assert {*registry.TASKS, "records", "models"} <= tasks


def source() -> str:
    """The source of the program, in which texts that go on in another line are joined."""
    files = [*(ROOT / "smolcli").rglob("*.py"), *(ROOT / "converters").rglob("*.py")]
    text = "\n".join(file.read_text(encoding="utf-8") for file in files if "nano" not in file.parts)
    return re.sub(r'"\n *f?"', "", text)


def test_the_messages_that_are_explained_are_the_programs() -> None:
    page = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    cells = [line.split(" | ")[0] for line in page.splitlines() if line.startswith("| `")]
    messages = [message for cell in cells if not cell.endswith(OTHERS) for message in re.findall(r"`([^`]+)`", cell)]
    parts = [part.strip(" ,()") for message in messages for part in message.split("…")]
    program = source()
    assert len(messages) > 40
    assert not [part for part in parts if part not in program]
