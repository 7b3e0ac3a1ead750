"""Makes the man pages in docs/share/man/man1 from the program's help: `python docs/make_man.py`; --check only compares.

There is one page for the program and one for each command; the commands of a group, as `models pull`, are sections of
the group's page. Wheels have them as data, which pip installs to share/man of the environment.
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import typer

from smolcli import __version__, registry
from smolcli.cli.help import HelpCommand, HelpGroup, Page, Row
from smolcli.cli.main import make_app, make_command
from smolcli.cli.topics import environment, exit_codes, fields

FOLDER = Path(__file__).parent / "share" / "man" / "man1"
FILES = [
    Row("$XDG_CONFIG_HOME/smolcli/config.toml", "Defaults of options; ~/.config where the variable is not set."),
    Row("$XDG_CACHE_HOME/smolcli", "What smolcli keeps between runs; ~/.cache where the variable is not set."),
    Row("$HF_HOME/hub", "Models that were pulled; ~/.cache/huggingface where the variable is not set."),
]
# Typographic forms in groff of what must stay as it is typed: a command is copied from the page.
ESCAPES = str.maketrans({"\\": "\\e", "-": "\\-", "'": "\\(aq", '"': "\\(dq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti"})
WORD = re.compile(r"[A-Z|]+")  # what stands for a value: OPTIONS, [COMMAND|TOPIC], I/N, OUT.pdf


class Manual(Page):
    """Collects what the help says of a command, as roff."""

    def __init__(self) -> None:
        self.synopsis = ""
        self.paragraphs: list[str] = []
        self.examples: list[str] = []
        self.tables: dict[str, str] = {}

    def usage(self, text: str) -> None:
        names = [word for word in text.split() if word.islower()]
        values = [WORD.sub(lambda match: _italic(match[0]), escaped(word)) for word in text.split()[len(names) :]]
        self.synopsis = _lines(" ".join([_bold(escaped(" ".join(names))), *values]))

    def paragraph(self, text: str) -> None:
        self.paragraphs.append(prose(text))

    def lines(self, heading: str, lines: Iterable[str]) -> None:
        self.examples += lines

    def table(self, heading: str, rows: Sequence[Row], names: int | None = None) -> None:
        self.tables[heading] = "\n".join(f".TP\n{_lines(_name(row.name))}\n{prose(row.text)}" for row in rows)


def escaped(text: str) -> str:
    """`text` with the characters that groff would take for its own or for typographic ones."""
    return "".join(f"\\[u{ord(letter):04X}]" if ord(letter) > 126 else letter for letter in text.translate(ESCAPES))


def prose(text: str) -> str:
    """A paragraph in lines of at most 100 characters, with what stands between backquotes in bold."""
    parts = re.split(r"`([^`]+)`", text)
    return _lines("".join(_bold(escaped(part)) if number % 2 else escaped(part) for number, part in enumerate(parts)))


def _lines(text: str) -> str:
    """Text in lines, of which none is taken for a request."""
    lines = textwrap.wrap(text, 100, break_long_words=False, break_on_hyphens=False)
    return "\n".join(f"\\&{line}" if line.startswith((".", "'")) else line for line in lines)


def _bold(text: str) -> str:
    return f"\\fB{text}\\fP"


def _italic(text: str) -> str:
    return f"\\fI{text}\\fP"


def _name(name: str) -> str:
    """The name of a row: options in bold, what stands for a value in italics."""
    *options, last = name.split(", ")
    last, _, value = last.partition(" ") if name.startswith("-") else (last, "", "")
    names = ", ".join(_bold(escaped(word)) for word in (*options, last))
    return f"{names} {_italic(escaped(value))}" if value else names


def section(title: str, *blocks: str, macro: str = ".SH") -> str:
    """A section, or a subsection with the macro .SS: its title and its blocks, paragraphs or tables."""
    text, is_first = [f'{macro} "{escaped(title)}"'], True
    for block in blocks:
        if not is_first and not block.startswith("."):
            text.append(".PP")
        text.append(block)
        is_first = False
    return "\n".join(text)


def example_lines(examples: Iterable[str]) -> str:
    """Commands, each on a line of its own."""
    return "\n".join([".EX", *map(escaped, examples), ".EE"])


def head(name: str, about: str) -> Iterator[str]:
    """The title and the first section of a page."""
    yield f'.TH {escaped(name.upper())} 1 "" "smolcli {__version__}" "smolcli"'
    yield ".nh\n.ad l"  # an option that is divided at a line end cannot be copied
    yield section("NAME", f"{escaped(name)} \\- {prose(about[0].lower() + about[1:].rstrip('.'))}")


def see_also(name: str) -> str:
    """The other pages."""
    others = [f"{_bold(escaped(page))}(1)" for page in page_names() if page != name]
    return section("SEE ALSO", _lines(", ".join(others)))


def page_names() -> list[str]:
    """The pages, the program's first."""
    return ["smolcli", *(f"smolcli-{name}" for name in (*registry.TASKS, *registry.COMMANDS))]


def program() -> tuple[Any, typer.Context]:
    """The program, with the options that Typer adds to it, and the context that its commands are called in."""
    command: Any = typer.main.get_command(make_app())
    return command, typer.Context(command, info_name="smolcli", **command.context_settings)


def program_page() -> str:
    """The page of the program, with all that holds for every command."""
    group, context = program()
    manual, topics = Manual(), [Manual(), Manual(), Manual()]
    group.fill(manual, context)
    for topic, fill in zip(topics, (exit_codes, environment, fields), strict=True):
        fill(topic)
    codes, variables, record = topics
    options = manual.tables.pop("Options")
    return _page(
        *head("smolcli", group.help),
        section("SYNOPSIS", manual.synopsis),
        section("DESCRIPTION", *manual.paragraphs),
        section("COMMANDS"),
        *(section(heading, rows, macro=".SS") for heading, rows in manual.tables.items()),
        section("OPTIONS", options),
        section("EXIT STATUS", codes.paragraphs[0], codes.tables["Exit codes"]),
        section("ERRORS", codes.paragraphs[1], codes.tables["Kinds of error"]),
        section("RECORDS", *record.paragraphs, *record.tables.values()),
        section("ENVIRONMENT", *variables.paragraphs, *variables.tables.values()),
        section("FILES", "\n".join(f".TP\n{_italic(escaped(name))}\n{prose(text)}" for name, text in FILES)),
        see_also("smolcli"),
    )


def command_page(name: str) -> str:
    """The page of one command, or of a group and its commands."""
    command = make_command(name)
    context = typer.Context(command, parent=program()[1], info_name=name)
    entry = registry.TASKS.get(name) or registry.COMMANDS[name]
    parts = list(_group(command, context) if isinstance(command, HelpGroup) else _command(command, context))
    return _page(*head(f"smolcli-{name}", entry.about), *parts, see_also(f"smolcli-{name}"))


def _command(command: HelpCommand, context: typer.Context) -> Iterator[str]:
    manual = Manual()
    command.fill(manual, context, is_full=True)
    yield section("SYNOPSIS", manual.synopsis)
    yield section("DESCRIPTION", *manual.paragraphs)
    yield section("OPTIONS")
    yield from (section(heading, rows, macro=".SS") for heading, rows in manual.tables.items())
    if manual.examples:
        yield section("EXAMPLES", example_lines(manual.examples))


def _group(group: HelpGroup, context: typer.Context) -> Iterator[str]:
    manual = Manual()
    group.fill(manual, context)
    yield section("SYNOPSIS", manual.synopsis)
    yield section("DESCRIPTION", manual.paragraphs[0])
    yield section("COMMANDS", *manual.tables.values())
    for name, command in group.commands.items():
        own = Manual()
        assert isinstance(command, HelpCommand), name
        command.fill(own, typer.Context(command, parent=context, info_name=name), is_full=True)
        yield section(name.upper(), own.synopsis, *own.paragraphs)
        yield from (section(heading, rows, macro=".SS") for heading, rows in own.tables.items())
        if own.examples:
            yield section("Examples", example_lines(own.examples), macro=".SS")


def _page(*parts: str) -> str:
    return "\n".join(['.\\" Made by docs/make_man.py from the help of the program.', *parts]) + "\n"


def pages() -> dict[str, str]:
    """Every page, by the name of its file."""
    commands = (*registry.TASKS, *registry.COMMANDS)
    return {"smolcli.1": program_page(), **{f"smolcli-{name}.1": command_page(name) for name in commands}}


def main() -> None:
    """Write the pages, or with --check exit with a message if the files are others."""
    made = pages()
    if "--check" not in sys.argv:
        FOLDER.mkdir(parents=True, exist_ok=True)
        for old in FOLDER.iterdir():
            old.unlink()
        for name, text in made.items():
            (FOLDER / name).write_text(text, encoding="utf-8")
    elif made != {path.name: path.read_text(encoding="utf-8") for path in FOLDER.iterdir()}:
        sys.exit("docs/share/man is not what the program says; run make docs")


if __name__ == "__main__":
    main()
