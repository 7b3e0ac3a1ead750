"""The entry point of smolcli, also of `python -m smolcli`."""

import sys


def _is_interrupt(error: BaseException) -> bool:
    """Whether it is Ctrl-C; Python before 3.12 puts a RuntimeError around one that comes while a class is made."""
    return isinstance(error, KeyboardInterrupt) or isinstance(error.__cause__, KeyboardInterrupt)


try:
    import gc
    import os
    import signal

    from smolcli.errors import Exit
    from smolcli.terminal.stdout import open_closed_streams
except BaseException as error:
    if not _is_interrupt(error):
        raise
    sys.exit(130)  # Exit.INTERRUPTED, which may not be loaded


def main() -> None:
    """Runs the program and exits with its code; Ctrl-C during imports exits with 130 too, without a traceback."""
    if sys.platform == "win32":  # which has neither these signals nor posix_spawn
        print("smolcli: Windows is not supported; install smolcli in WSL, after wsl --install", file=sys.stderr)
        sys.exit(Exit.UNAVAILABLE)
    try:
        gc.disable()  # until all is imported: there is no garbage yet, and collecting takes a tenth of the start
        # A parent may have set SIGCHLD to be ignored; then the exit code of every child would be lost.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        # A run prints its progress on SIGUSR1; before that, and in the engine, which
        # inherits it, the signal must not end the process.
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        open_closed_streams()
        _begin(sys.argv[1:])
        from smolcli.cli.main import main as program

        program()
    except BaseException as error:
        if not _is_interrupt(error):
            raise
        sys.exit(Exit.INTERRUPTED)
    finally:
        gc.freeze()  # skips the interpreter's last collection: the process ends anyway


def _begin(words: list[str]) -> None:
    """Starts the engine's process if `words` name a task, before they are parsed: both take about as long."""
    others = ("-h", "--help", "--dry-run", "--engine")
    if not words or "_SMOLCLI_COMPLETE" in os.environ or any(word.startswith(others) for word in words):
        return
    from smolcli import registry

    if words[0] in registry.TASKS:
        from smolcli.process.spawn import ENGINE, prestart

        prestart(ENGINE, "-v" in words or "--verbose" in words)


if __name__ == "__main__":
    main()
