"""The command line: makes a command of a task or tool in the registry, and errors into a line and an exit code."""

from __future__ import annotations

import errno
import gc
import io
import os
import signal
import sys
import traceback
from functools import partial
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_group

from smolcli import __version__, registry
from smolcli.cli.typer_patch import skip_pydantic
from smolcli.errors import Exit, OutputError, ReaderGone, SmolError
from smolcli.terminal.console import Console
from smolcli.terminal.stdout import cannot_write, claim_stdout, redirect_to_devnull


class _Program(TyperGroup):
    """Makes a command when it is chosen; the others are a name and a line, and cost nothing."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        if args and args[0] in self.commands:
            self.commands[args[0]] = _made(args[0])
            gc.enable()
        return super().resolve_command(ctx, args)


def make_app() -> typer.Typer:
    """The program."""
    app = _app(_Program)
    app.callback()(_program)
    for name, entry in {**registry.TASKS, **registry.COMMANDS}.items():
        app.command(name, help=entry.about)(_placeholder)
    return app


def _app(group: type[TyperGroup] = TyperGroup) -> typer.Typer:
    return typer.Typer(
        cls=group,
        name="smolcli",
        help="Small vision-language models in the shell: nothing leaves the machine.",
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def _made(name: str) -> Any:
    """The command of one entry, as Typer runs it."""
    from smolcli.cli.dataclass_options import (
        dataclass_command,
    )  # what only a command needs, and the help of all does without
    from smolcli.options import Batch, Generate, Input, Model, Output

    app = _app()
    if name in registry.TASKS:
        task = registry.load(registry.TASKS, name)
        app.command(name, help=task.__doc__)(
            dataclass_command(partial(_run, name), task, Input, Model, Generate, Output, Batch)
        )
    elif isinstance(command := registry.load(registry.COMMANDS, name), typer.Typer):
        app.add_typer(command, name=name)
    else:
        app.command(name)(command)
    return get_group(app).commands[name]


def _placeholder() -> None:
    """Stands for a command that is not chosen."""


def main() -> None:
    """Runs the program on sys.argv and ends the process with an exit code of errors.Exit."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # a path of other bytes goes out as it is
    for name in ("SIGTERM", "SIGHUP"):  # what is open is closed; nohup's wish is respected; Windows has no SIGHUP
        ending = getattr(signal, name, None)
        if ending is not None and signal.getsignal(ending) is signal.SIG_DFL:
            signal.signal(ending, lambda signum, _: sys.exit(128 + signum))
    verbose = "-v" in sys.argv or "--verbose" in sys.argv
    if "_SMOLCLI_COMPLETE" in os.environ:
        sys.modules["rich"] = None  # type: ignore[assignment]  # Typer would take its markup out of help that has none
    skip_pydantic()
    try:
        code = make_app()(prog_name="smolcli", standalone_mode=False)
    except ReaderGone:
        code = Exit.OK  # whoever read the output has enough
    except SmolError as error:
        code = _failed(error, error.code, verbose)
    except KeyboardInterrupt:
        code = Exit.INTERRUPTED
    except typer.Exit as end:
        code = end.exit_code
    except Exception as error:
        code = _other(error, verbose)
    sys.exit(_flushed(code))


def _run(name: str, *options: Any) -> None:
    from smolcli.pipeline.run import run  # all of the stages: no help waits for them

    gc.freeze()  # it stays loaded: nothing in it is looked at again, at the end neither

    try:
        code = run(name, claim_stdout(), *options)
    except BrokenPipeError:
        code = Exit.OK  # whoever read the answers has enough
    raise typer.Exit(code)


def _program(
    version: bool = typer.Option(
        False,
        "--version",
        callback=lambda shown: _version() if shown else None,
        is_eager=True,
        help="Show the version and exit.",
    ),
) -> None:
    """Small vision-language models in the shell: nothing leaves the machine."""


def _version() -> None:
    print(f"smolcli {__version__}")
    raise typer.Exit


def _failed(error: BaseException, code: int, verbose: bool) -> int:
    if verbose:
        traceback.print_exception(error)
    Console().error(error)
    return code


def _other(error: Exception, verbose: bool) -> int:
    """Typer's own usage errors, a full disk, or a fault of ours."""
    format_message = getattr(error, "format_message", None)
    if format_message is not None:
        message = format_message()
        if "\n" in message:  # the help, where no command is given
            print(message, file=sys.stderr)
            return Exit.USAGE
        context = getattr(error, "ctx", None)
        command = next((word for word in sys.argv[1:] if word in (*registry.TASKS, *registry.COMMANDS)), "")
        program = context.command_path if context else f"smolcli {command}".rstrip()
        return _failed(SmolError(message.rstrip("."), f"see {program} --help"), Exit.USAGE, False)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return _failed(OutputError(str(error.strerror), "make room and run it again"), Exit.FAULT, verbose)
    what = f"unexpected fault: {type(error).__name__}: {error}"
    return (
        _failed(error, Exit.FAULT, True)
        if verbose
        else _failed(SmolError(what, "run it again with -v and report it"), Exit.FAULT, False)
    )


def _flushed(code: object) -> int:
    """The exit code, after what is buffered has gone out; a closed pipe is no error at the end either."""
    try:
        sys.stdout.flush()
    except OSError as error:
        redirect_to_devnull(1)
        if not isinstance(error, BrokenPipeError):
            code = _failed(cannot_write("standard output", error), Exit.FAULT, False)
    return int(code) if isinstance(code, int) else Exit.OK
