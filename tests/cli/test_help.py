"""cli/help.py and cli/topics.py: what the help of every command shows, and how wide it is."""

from __future__ import annotations

import io
import re
import shlex
from dataclasses import fields
from typing import Any

import pytest
import typer
from typer.main import get_group
from typer.testing import CliRunner

from smolcli import registry
from smolcli.cli import help as pages
from smolcli.cli.main import make_app
from smolcli.cli.topics import RECORD_FIELDS, TOPICS
from smolcli.errors import ErrorKind, Exit, UsageError
from smolcli.types import Record

SUBCOMMANDS = {"models": ("list", "pull"), "bench": ("speed", "memory", "quality", "compare"),
    "config": ("show", "set", "unset", "path", "schema"),
}  # fmt: skip
COMMANDS = [
    *registry.TASKS,
    *(name for name in registry.COMMANDS if name not in SUBCOMMANDS),
    *(f"{name} {command}" for name, commands in SUBCOMMANDS.items() for command in commands),
]
EVERY_PAGE = ["", *SUBCOMMANDS, *COMMANDS]
COLOR = re.compile("\x1b\\[[0-9;]*m")


def shown(*words: str, width: int = 80, **env: str) -> str:
    """What the program writes."""
    result = CliRunner().invoke(
        make_app(), words, prog_name="smolcli", env={"COLUMNS": str(width), "NO_COLOR": "1", **env}
    )
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


def command_named(name: str) -> Any:
    """The command of a name as `bench speed`."""
    program: Any = get_group(make_app())
    words = name.split()
    _, command, _ = program.resolve_command(typer.Context(program), words)
    return command.commands[words[1]] if len(words) > 1 else command


def option_names(page: str) -> list[str]:
    """The first long or short name of each option of a page."""
    return re.findall(r"^  (?:-\w, )?(--?[\w-]+)", page, re.MULTILINE)


# ---- every page ----------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [60, 80, 100, 300])
@pytest.mark.parametrize("how", ["--help", "--help-all"])
def test_no_line_is_cut_or_too_long(how: str, width: int) -> None:
    for name in EVERY_PAGE:
        for line in shown(*name.split(), how, width=width).splitlines():
            assert len(line) <= min(width, 100) or (line.startswith("  smolcli ") and len(line) <= 80), line
            assert not line.rstrip().endswith("...") or line.startswith("Usage:"), line
            assert not re.search(r"<\w|x>=|no-dry-run|list\[", line), line


def test_help_of_caption_fits_a_screen() -> None:
    for width in (80, 100):
        assert shown("caption", "--help", width=width).count("\n") <= 50
    assert shown("caption", "-h") == shown("caption", "--help")


def test_the_program_shows_its_commands_in_groups() -> None:
    page = shown("--help")
    assert [line for line in page.splitlines() if line.endswith(":")] == [
        "Pictures and videos:", "Models:", "Tools:", "Options:",
    ]  # fmt: skip
    for name, entry in {**registry.TASKS, **registry.COMMANDS}.items():
        assert re.search(rf"^  {name} +{re.escape(entry.about)}$", page, re.MULTILINE), name
    assert page == shown("-h") == shown("help") == shown("--help-all")


@pytest.mark.parametrize("name", [*registry.TASKS, *registry.COMMANDS])
def test_the_line_of_a_command_is_how_its_help_begins(name: str) -> None:
    about = {**registry.TASKS, **registry.COMMANDS}[name].about
    assert " ".join(shown(name, "--help").split("\n\n")[1].split()) == about


def test_a_group_shows_its_commands_and_in_full_their_pages() -> None:
    page = shown("bench", "--help")
    assert all(f"\n  {name} " in page for name in SUBCOMMANDS["bench"])
    full = shown("bench", "--help-all")
    assert full.startswith(page.rstrip()) and all(
        f"Usage: smolcli bench {name} " in full for name in SUBCOMMANDS["bench"]
    )


# ---- one command ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
def test_short_and_full_help_have_all_options(name: str) -> None:
    short, full = (option_names(shown(*name.split(), how)) for how in ("--help", "--help-all"))
    params = [p for p in command_named(name).params if p.param_type_name == "option" and not p.hidden]
    assert len(full) == len(params) + 1  # with -h
    assert set(short) <= set(full) - {"--no-config", "--help-all", "-h"}
    more = len(full) - 3 - len(short)
    last = shown(*name.split(), "--help").splitlines()[-1]
    assert (last == f"{more} more options: smolcli {name} --help-all") == (more > 0)


@pytest.mark.parametrize("name", registry.TASKS)
def test_a_task_shows_a_sentence_three_examples_and_the_usual_options(name: str) -> None:
    page = shown(name, "--help")
    blocks = page.split("\n\n")
    assert blocks[0].startswith(f"Usage: smolcli {name} [OPTIONS] ")
    assert blocks[2].splitlines()[0] == "Examples:" and len(blocks[2].splitlines()) == 4
    panels = [block.splitlines()[0] for block in blocks[3:-1]]
    assert [panel for panel in panels if panel not in ("Frames:", "Pages:")] == [
        "Inputs:", "Model:", "Answer:", "Output:", "Many inputs:",
    ]  # fmt: skip
    assert 12 <= len(option_names(page)) <= 20


@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_are_understood(name: str) -> None:
    command = command_named(name)
    examples = command.epilog.splitlines()
    is_bare = not getattr(command.callback, "classes", True)  # it takes no words
    assert (1 if is_bare else 2) <= len(examples) <= 3
    for example in examples:
        program, *words = shlex.split(example)
        count = len(name.split())
        assert [program, *words[:count]] == ["smolcli", *name.split()]
        assert command.make_context(name, words[count:]).params


def test_a_command_offers_only_the_formats_that_it_takes() -> None:
    for name in ("caption", "ask", "ocr"):
        page = shown(name, "--help-all")
        assert "csv" in page and not re.search(r"srt|vtt|chapters", page)
    page = shown("video-summarize", "--help-all")
    assert all(word in page for word in registry.NEEDS_SEGMENTS)


def test_defaults_and_ranges_are_words() -> None:
    page = " ".join(shown("caption", "--help-all").split())
    for words in ("[1 or more; default: 512 tokens]", "[1 or more; default: 200 million pixels]",
                  "default: 600 seconds]",
                  "[1 to 512; default: the CPU cores this process may use]", "[0 to 100; default: 0]",
                  "--no-recursive Leave out"):  # fmt: skip
        assert words in page
    assert "[default: False]" not in page


# ---- colour and pager ----------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "env", "is_colored"),
    [
        (Terminal(), {}, True),
        (io.StringIO(), {}, False),
        (io.StringIO(), {"FORCE_COLOR": "1"}, True),
        (Terminal(), {"NO_COLOR": "1"}, False),
        (Terminal(), {"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
        (Terminal(), {"TERM": "dumb"}, False),
    ],
)
def test_where_there_is_colour(
    stream: io.StringIO, env: dict[str, str], is_colored: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert pages.has_color(stream) == is_colored


@pytest.mark.parametrize("words", [["--help"], ["caption", "--help"], ["bench", "-h"], ["help", "fields"]])
def test_colour_changes_no_character(words: list[str]) -> None:
    colored = shown(*words, NO_COLOR="", FORCE_COLOR="1")
    assert "\x1b[1mUsage:\x1b[0m" in colored or "\x1b[1mFields:\x1b[0m" in colored
    assert COLOR.sub("", colored) == shown(*words)


def test_a_pager_is_for_terminals(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    paged: list[str] = []
    monkeypatch.setattr("pydoc.pager", paged.append)
    monkeypatch.delenv("LESS", raising=False)
    pages.show("a page")
    assert (capsys.readouterr().out, paged) == ("a page\n", [])
    monkeypatch.setattr("sys.stdout", Terminal())
    monkeypatch.setattr("sys.stdin", Terminal())
    pages.show("a page")
    assert paged == ["a page\n"]


# ---- smolcli help --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["caption", "bench speed", "models", "doctor"])
def test_help_shows_the_full_page_of_a_command(name: str) -> None:
    assert shown("help", *name.split()) == shown(*name.split(), "--help-all")


@pytest.mark.parametrize("topic", TOPICS)
def test_topics(topic: str) -> None:
    page = shown("help", topic)
    assert all(len(line) <= 80 for line in page.splitlines())
    assert topic in shown("--help")


def test_topics_are_complete() -> None:
    assert list(RECORD_FIELDS) == [field.name for field in fields(Record)]
    page = shown("help", "exit-codes")
    names = [str(int(code)) for code in Exit] + [kind.value for kind in ErrorKind]
    assert [name for name in names if not re.search(rf"^  {name} ", page, re.MULTILINE)] == []


# ---- typing errors -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["captoin"], "No such command captoin; did you mean caption?"),
        (["zzz"], "No such command zzz; see smolcli --help"),
        (["bench", "sped"], "No such command sped; did you mean speed?"),
        (["bench", "x"], "No such command x; see smolcli bench --help"),
        (["help", "captoin"], "No such command or topic captoin; did you mean caption?"),
        (["help", "exit-code"], "No such command or topic exit-code; did you mean exit-codes?"),
        (["help", "bench", "sped"], "No such command sped; did you mean speed?"),
        (["help", "zzz"], "No such command or topic zzz; see smolcli --help"),
    ],
)
def test_an_unknown_command(words: list[str], message: str) -> None:
    with pytest.raises(UsageError) as error:
        shown(*words)
    assert str(error.value) == message
