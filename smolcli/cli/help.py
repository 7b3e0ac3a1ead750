"""The help pages of commands: plain text of at most 100 columns, with bold headings and cyan names on a terminal.

A page is made of what Typer keeps of a command: its help text, its parameters with their panels (`rich_help_panel`),
and its epilog, which holds the examples, one a line. `-h` and `--help` show the first paragraph of the text and the
usual options; `--help-all` shows everything. rich is not used: with it, help takes twice the time.
"""

from __future__ import annotations

import inspect
import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import IO, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from smolcli.errors import Exit, UsageError
from smolcli.system.config_path import is_configured
from smolcli.terminal.stdout import write_stdout

PANELS = ("Arguments", "Inputs", "Frames", "Model", "Answer", "Output", "Many inputs", "Options", "Help")  # in order
MAX_WIDTH = 100
MIN_WIDTH = 40
SMALLEST = 1e-6  # the least value of an option that takes any number above zero
MAX_NAMES = 24  # columns of an option's names; the text of a longer one begins on the next line
BOLD, CYAN, PLAIN = "\x1b[1m", "\x1b[36m", "\x1b[0m"


class Row(NamedTuple):
    """A name and what it stands for: an option, a command, a variable."""

    name: str
    text: str


class Page:
    """Builds the text of a help page, wrapped at `width` columns."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        stream = stream or sys.stdout
        self._width = _columns(stream)
        self._has_color = has_color(stream)
        self._blocks: list[str] = []

    def usage(self, text: str) -> None:
        """Add the usage line."""
        first, *rest = self._wrap(f"Usage: {text}", "", " " * len("Usage: "))
        self._add([f"{self._bold('Usage:')}{first.removeprefix('Usage:')}", *rest])

    def paragraph(self, text: str) -> None:
        """Add a paragraph."""
        self._add(self._wrap(text, ""))

    def lines(self, heading: str, lines: Iterable[str]) -> None:
        """Add a heading and lines below it, which are not wrapped."""
        self._add([self._bold(f"{heading}:"), *(f"  {self._cyan(line)}" for line in lines)])

    def table(self, heading: str, rows: Sequence[Row], names: int | None = None) -> None:
        """Add a heading and rows of two columns, of which the first has `names` characters (default: as needed)."""
        names = names or names_width(rows)
        indent = " " * (names + 4)
        block = [self._bold(f"{heading}:")]
        for name, text in rows:
            first, *rest = self._wrap(text, indent) or [""]
            if len(name) > names:
                block += [f"  {self._cyan(name)}", first, *rest]
            else:
                block += [f"  {self._cyan(name)}{first[2 + len(name) :]}", *rest]
        self._add(block)

    def text(self) -> str:
        """The whole page, without a line end after the last line."""
        return "\n\n".join(self._blocks)

    def _add(self, lines: Iterable[str]) -> None:
        self._blocks.append("\n".join(line.rstrip() for line in lines))

    def _wrap(self, text: str, indent: str, rest_indent: str | None = None) -> list[str]:
        return textwrap.wrap(
            text,
            self._width,
            initial_indent=indent,
            subsequent_indent=indent if rest_indent is None else rest_indent,
            break_long_words=False,
            break_on_hyphens=False,
        )

    def _bold(self, text: str) -> str:
        return f"{BOLD}{text}{PLAIN}" if self._has_color else text

    def _cyan(self, text: str) -> str:
        return f"{CYAN}{text}{PLAIN}" if self._has_color else text


def names_width(rows: Iterable[Row]) -> int:
    """Columns for the names of `rows`."""
    return max((len(row.name) for row in rows if len(row.name) <= MAX_NAMES), default=MAX_NAMES)


def has_color(stream: IO[str]) -> bool:
    """Whether text on `stream` is coloured: on a terminal or with FORCE_COLOR, and never with NO_COLOR."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def show(text: str) -> None:
    """Print `text`; on a terminal in a pager ($PAGER, else less), which ends at once where all fits the screen."""
    pager = os.environ.get("PAGER", "less").split() or ["cat"]
    if not (sys.stdout.isatty() and sys.stdin.isatty()) or shutil.which(pager[0]) is None:
        write_stdout(f"{text}\n")
        return
    import pydoc  # takes 20 ms, for a terminal alone

    # F: end if it fits, X: leave the text on the screen, R: keep colours, whatever else the user wants of less.
    os.environ["LESS"] = f"{os.environ['LESS']} -R" if "LESS" in os.environ else "FRX"
    pydoc.pager(f"{text}\n")


class HelpCommand(TyperCommand):
    """A command whose help is a page of ours, and whose defaults are the user's settings."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Typer's own, after the settings. Raises UsageError for a wrong one."""
        if not ctx.resilient_parsing and is_configured():  # completion parses the words too
            from smolcli.cli import settings

            settings.apply(ctx, args)
        return super().parse_args(ctx, args)

    def get_help(self, ctx: Any) -> str:
        """The short page."""
        return self.page(ctx, is_full=False)

    def page(self, ctx: Any, is_full: bool) -> str:
        """The short page, or the full one; they differ where the command has options that only the full one shows."""
        page = Page()
        self.fill(page, ctx, is_full)
        return page.text()

    def fill(self, page: Page, ctx: Any, is_full: bool) -> None:
        """Add what there is to say of the command to `page`, which may be one of another form."""
        long_names: frozenset[str] = getattr(self.callback, "long_options", frozenset())
        is_short = bool(long_names) and not is_full
        params: list[Any] = [param for param in self.get_params(ctx) if not getattr(param, "hidden", False)]
        arguments = [param.metavar or param.name.upper() for param in params if param.param_type_name == "argument"]
        page.usage(" ".join([ctx.command_path, "[OPTIONS]", *arguments]))
        for paragraph in _paragraphs(self)[: 1 if is_short else None]:
            page.paragraph(paragraph)
        if self.epilog:
            page.lines("Examples", self.epilog.splitlines())
        if not is_full:
            params = [param for param in params if param.name not in long_names and _panel(param) != "Help"]
        panels = _by_panel(params, not is_short)
        names = names_width(row for rows in panels.values() for row in rows)
        for heading, rows in panels.items():
            page.table(heading, rows, names)
        if is_short:
            page.paragraph(f"{len(long_names)} more options: {ctx.command_path} --help-all")


class HelpGroup(TyperGroup):
    """A group of commands whose help is a page of ours; an unknown command is answered with one guess."""

    def get_help(self, ctx: Any) -> str:
        """The page of the group: its commands, each with its line."""
        return self.page(ctx, sys.stdout)

    def page(self, ctx: Any, stream: IO[str]) -> str:
        """The same, for `stream`."""
        page = Page(stream)
        self.fill(page, ctx)
        return page.text()

    def fill(self, page: Page, ctx: Any) -> None:
        """Add what there is to say of the group to `page`, which may be one of another form."""
        page.usage(f"{ctx.command_path} COMMAND [OPTIONS]")
        page.paragraph(self.help or "")
        sections = self.command_rows()
        names = names_width(row for rows in sections.values() for row in rows)
        for heading, rows in sections.items():
            page.table(heading, rows, names)
        if own := [param for param in self.get_params(ctx) if ctx.parent is None]:
            page.table("Options", [_row(param, is_full=False) for param in own])
        page.paragraph(self.last_line(ctx))

    def command_rows(self) -> dict[str, list[Row]]:
        """The commands with their lines, under the headings of the page."""
        return {"Commands": [Row(name, _paragraphs(command)[0]) for name, command in self.commands.items()]}

    def last_line(self, ctx: Any) -> str:
        """What the page ends with."""
        return f"Options of a command: {ctx.command_path} COMMAND --help"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Typer's own, but help goes to standard error where no command is given."""
        if not args and not ctx.resilient_parsing:
            print(self.page(ctx, sys.stderr), file=sys.stderr)
            raise typer.Exit(Exit.USAGE)
        ctx.color = has_color(sys.stdout)  # for what Typer writes, and that of the commands below this one
        if args[:1] == ["--help-all"] and not ctx.resilient_parsing:  # completion parses the words too
            show(self.full_page(ctx))
            raise typer.Exit
        return super().parse_args(ctx, args)

    def full_page(self, ctx: Any) -> str:
        """The page of the group and those of its commands."""
        commands = [
            (command, typer.Context(command, parent=ctx, info_name=name)) for name, command in self.commands.items()
        ]
        pages = [command.page(own, is_full=True) for command, own in commands if isinstance(command, HelpCommand)]
        return "\n\n\n".join([self.page(ctx, sys.stdout), *pages])

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Typer's own; raises UsageError with one guess for an unknown command."""
        if args and args[0] not in self.commands and not ctx.resilient_parsing:
            others = [] if ctx.parent is not None else ["--version", "--help"]
            raise no_such("command", args[0], [*self.commands, *others], ctx.command_path)
        return super().resolve_command(ctx, args)


def no_such(kind: str, word: str, known: Iterable[str], command_path: str) -> UsageError:
    """The error for an unknown command or option, with one guess, or else with the command that lists them."""
    from smolcli.terminal.words import closest

    dashes = "--" if kind == "option" else ""  # they make any two short options look alike
    guess = closest(word.removeprefix(dashes), [name.removeprefix(dashes) for name in known])
    advice = f"did you mean {dashes}{guess}?" if guess else f"see {command_path} --help"
    return UsageError(f"No such {kind} {word}", advice)


def show_full_help(ctx: typer.Context, is_wanted: bool) -> None:
    """The callback of --help-all."""
    if is_wanted and not ctx.resilient_parsing:
        command: Any = ctx.command
        show(command.page(ctx, is_full=True))
        raise typer.Exit


FULL_HELP = typer.Option(
    "--help-all", help="Show every option.", is_eager=True, callback=show_full_help, rich_help_panel="Help"
)

NO_CONFIG = typer.Option("--no-config", help="Ignore the settings in config.toml.", rich_help_panel="Help")


def _paragraphs(command: Any) -> list[str]:
    return inspect.cleandoc(command.help or "").split("\n\n")


def _by_panel(params: Iterable[Any], is_full: bool) -> dict[str, list[Row]]:
    """Rows under the names of their panels, known panels in the order of PANELS and then the others."""
    panels: dict[str, list[Row]] = {}
    for param in params:
        panels.setdefault(_panel(param), []).append(_row(param, is_full))
    order = {name: number for number, name in enumerate(PANELS)}
    return dict(sorted(panels.items(), key=lambda panel: order.get(panel[0], order["Model"])))


def _panel(param: Any) -> str:
    if param.name == "help":
        return "Help"
    return getattr(param, "rich_help_panel", None) or (
        "Arguments" if param.param_type_name == "argument" else "Options"
    )


def _row(param: Any, is_full: bool) -> Row:
    """An option or argument. A flag that is on by default is shown by the name that turns it off."""
    if param.param_type_name == "argument":
        return Row(param.metavar or param.name.upper(), _text(param, is_full))
    if param.name == "help":
        return Row(", ".join(sorted(param.opts, key=len)), "Show the usual options." if is_full else "Show this page.")
    opts = param.secondary_opts if param.secondary_opts and param.default else param.opts
    names = ", ".join(sorted(opts, key=len))
    return Row(names if param.is_flag else f"{names} {param.metavar or _metavar(param)}", _text(param, is_full))


def _metavar(param: Any) -> str:
    """A word for the value of an option that names none."""
    return "N" if getattr(param, "min", None) is not None else "TEXT"


def _text(param: Any, is_full: bool) -> str:
    """The help text of a parameter with its default; on the full page all of its lines, and the range of a number."""
    notes = []
    if is_full and (limits := number_range(getattr(param, "min", None), getattr(param, "max", None))):
        notes.append(limits)
    if default := _default(param):
        notes.append(f"default: {default}")
    text = param.help or ""
    text = " ".join(text.split("\n")) if is_full else text.partition("\n")[0]
    return f"{text} [{'; '.join(notes)}]" if notes else text


def _default(param: Any) -> str:
    """The default in words; empty where there is none to tell."""
    if isinstance(param.show_default, str):
        return str(param.show_default)
    if not param.show_default or param.default in (None, (), []) or getattr(param, "is_flag", False):
        return ""
    values = param.default if isinstance(param.default, (list, tuple)) else [param.default]
    return ", ".join(
        f"{value:g}" if isinstance(value, float) else str(getattr(value, "value", value)) for value in values
    )


def number_range(least: float | None, most: float | None) -> str:
    """The range of a number in words: `1 to 512`, `0 or more`, `more than 0`, or nothing."""
    if least is None:
        return ""
    if 0 < least <= SMALLEST and most is None:
        return "more than 0"
    return f"{least:.15g} or more" if most is None else f"{least:.15g} to {most:.15g}"


def _columns(stream: IO[str]) -> int:
    """Columns for text on `stream`: $COLUMNS, else the terminal's, else 80; from 40 to 100."""
    columns = 80
    word = os.environ.get("COLUMNS", "")
    if word.isdecimal() and int(word):
        columns = int(word)
    else:
        try:
            columns = os.get_terminal_size(stream.fileno()).columns or columns
        except (OSError, ValueError):  # not a terminal, or no file
            pass
    return max(MIN_WIDTH, min(columns, MAX_WIDTH))
