"""The command line: makes the chosen command of the registry, and turns errors into one line and an exit code."""

from __future__ import annotations

import errno
import gc
import io
import os
import re
import shlex
import signal
import sys
import traceback
from collections.abc import Sequence
from functools import partial
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_group

from smolcli import __version__, registry
from smolcli.cli.help import HelpCommand, HelpGroup, Row, no_such
from smolcli.cli.typer_patch import skip_pydantic
from smolcli.errors import Exit, OutputError, ReaderGone, SmolError
from smolcli.system.config_path import is_configured
from smolcli.terminal.console import Console
from smolcli.terminal.stdout import cannot_write, claim_stdout, redirect_to_devnull

TASKS_HEADING = "Pictures and videos"


class Program(HelpGroup):
    """Makes a command when it is chosen; the others are only a name and a line of help."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Typer's own, of the command itself in place of its placeholder."""
        if args and args[0] in self.commands:
            self.commands[args[0]] = make_command(args[0])
            gc.enable()
        return super().resolve_command(ctx, args)

    def command_rows(self) -> dict[str, list[Row]]:
        """Tasks, and the other commands by the group of their registry entry."""
        sections = {TASKS_HEADING: [Row(name, entry.about) for name, entry in registry.TASKS.items()]}
        for name, entry in registry.COMMANDS.items():
            sections.setdefault(entry.group, []).append(Row(name, entry.about))
        return sections

    def last_line(self, ctx: Any) -> str:
        """Where the other pages are."""
        return (
            "Options of a command: smolcli COMMAND --help; all of them: smolcli help COMMAND. "
            "Topics: smolcli help exit-codes, environment or fields."
        )

    def full_page(self, ctx: Any) -> str:
        """The same page: those of the commands are too many for one."""
        return self.page(ctx, sys.stdout)


def make_app() -> typer.Typer:
    """Return the program."""
    app = _typer_app(Program)
    app.callback()(_program)
    for name, entry in {**registry.TASKS, **registry.COMMANDS}.items():
        app.command(name, help=entry.about, short_help=entry.about)(_placeholder)
    return app


def _typer_app(group: type[TyperGroup]) -> typer.Typer:
    return typer.Typer(
        cls=group,
        name="smolcli",
        help="Small vision-language models in the shell: nothing leaves the machine.",
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def make_command(name: str) -> Any:
    """Make the command of one registry entry."""
    # what only a command needs, and the help of the program does without
    from smolcli.cli.dataclass_options import dataclass_command, task_classes

    app = _typer_app(HelpGroup)
    if name in registry.TASKS:
        task = registry.load(registry.TASKS, name)
        function = dataclass_command(partial(_run, name), *task_classes(task))
        app.command(name, cls=HelpCommand, help=task.__doc__, epilog="\n".join(task.examples))(function)
    else:
        command = registry.load(registry.COMMANDS, name)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name, cls=HelpCommand, epilog="\n".join(command.examples))(command)
    return get_group(app).commands[name]


def _placeholder() -> None:
    """Stands for a command that is not chosen."""


def main() -> None:
    """Run the program on sys.argv and end the process with an exit code of errors.Exit."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # writes the bytes of a path that is not UTF-8 unchanged
    _exit_on_signals()
    is_verbose = "-v" in sys.argv or "--verbose" in sys.argv
    if "_SMOLCLI_COMPLETE" in os.environ:
        sys.modules["rich"] = None  # type: ignore[assignment]  # keeps Typer from loading it to remove its markup
    skip_pydantic()
    try:
        code = make_app()(prog_name="smolcli", standalone_mode=False)
    except ReaderGone:
        code = Exit.OK  # whoever read the output has enough
    except SmolError as error:
        if is_configured():
            from smolcli.cli import settings

            settings.name_sources(error)
        code = _report(error, error.code, is_verbose)
    except KeyboardInterrupt:
        code = Exit.INTERRUPTED
    except typer.Exit as end:
        code = end.exit_code
    except Exception as error:
        code = _report_other(error, is_verbose)
    sys.exit(_flush(code))


def _exit_on_signals() -> None:
    """Make SIGTERM and SIGHUP exit as sys.exit does, so that files are closed; what nohup ignores stays ignored."""
    for name in ("SIGTERM", "SIGHUP"):  # Windows has no SIGHUP
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, lambda signum, _: sys.exit(128 + signum))


def _run(name: str, *options: Any) -> None:
    from smolcli.pipeline.run import run  # loads every stage, which help does without

    if is_configured():
        _tell_settings(options)
    gc.freeze()  # modules stay loaded: the collector need not look at them again

    try:
        code = run(name, claim_stdout(), *options)
    except BrokenPipeError:
        code = Exit.OK  # whoever read the answers has enough
    raise typer.Exit(code)


def _tell_settings(options: Sequence[Any]) -> None:
    """With --dry-run and -v say which settings are in force."""
    from smolcli.cli import settings

    values = {name: value for group in options for name, value in vars(group).items()}
    in_force = settings.describe()
    if in_force and (values["dry_run"] or values["verbose"]):
        Console(values["quiet"]).notice(f"settings: {in_force}")


def _program(
    version: bool = typer.Option(
        False,
        "-V",
        "--version",
        callback=lambda is_wanted: _show_version() if is_wanted else None,
        is_eager=True,
        help="Show the version.",
    ),
) -> None:
    """Small vision-language models in the shell: nothing leaves the machine."""


def _show_version() -> None:
    print(f"smolcli {__version__}")
    raise typer.Exit


def _report(error: BaseException, code: int, is_verbose: bool) -> int:
    """Print an error, after its traceback with -v, and return its exit code."""
    if is_verbose:
        traceback.print_exception(error)
    if isinstance(error, SmolError):
        Console().error(error.what, error.advice)
    else:
        Console().error(error)
    return code


def _report_other(error: Exception, is_verbose: bool) -> int:
    """Print an error that is not ours: one of Typer about usage, a full disk, or a fault in smolcli.

    Ctrl-C while a class is made, as modules are loaded, is a RuntimeError before Python 3.12.
    """
    if isinstance(error.__cause__, KeyboardInterrupt):
        return Exit.INTERRUPTED
    if hasattr(error, "format_message"):
        return _report(_usage_error(error), Exit.USAGE, False)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        try:
            sys.stdout.flush()
        except OSError:  # it was standard output that had no space: what it still holds must not fail once more
            redirect_to_devnull(1)
        return _report(OutputError(str(error.strerror), "free some space and run it again"), Exit.FAULT, is_verbose)
    if is_verbose:
        return _report(error, Exit.FAULT, True)
    message = f"unexpected fault: {type(error).__name__}: {error}"
    return _report(SmolError(message, "run it again with -v and report it"), Exit.FAULT, False)


def _usage_error(error: Any) -> SmolError:
    """Return Typer's error about usage as ours, with one guess for an unknown option."""
    context = getattr(error, "ctx", None)
    words = sys.argv[1:]
    command = next((word for word in words if word in (*registry.TASKS, *registry.COMMANDS)), "")
    path = context.command_path if context else f"smolcli {command}".rstrip()
    if context is not None and hasattr(error, "possibilities"):
        if command and context.parent is None:
            place = words.index(command)
            right = shlex.join(["smolcli", command, *words[:place], *words[place + 1 :]])
            return SmolError(f"{error.option_name} stands before the command", f"options come after it: {right}")
        params = context.command.get_params(context)
        names = [name for param in params for name in (*param.opts, *param.secondary_opts) if name.startswith("--")]
        return no_such("option", error.option_name, names, path)
    # Typer writes "Invalid value for '-n' / '--max-tokens': 0 is not ..."
    message = re.sub(r"^Invalid value for (?:'[^']*' / )*'([^']*)': ", r"\1: ", error.format_message()).rstrip(".")
    return SmolError(message, f"see {path} --help")


def _flush(code: object) -> int:
    """Write what is buffered and return the exit code; a closed pipe is no error here either."""
    try:
        sys.stdout.flush()
    except OSError as error:
        redirect_to_devnull(1)
        if not isinstance(error, BrokenPipeError):
            code = _report(cannot_write("standard output", error), Exit.FAULT, False)
    return int(code) if isinstance(code, int) else Exit.OK
