"""The program smolcli, also as `python -m smolcli`."""

import gc
import os
import signal
import sys

from smolcli.errors import Exit
from smolcli.terminal.stdout import open_closed_streams


def main() -> None:
    """Runs the program; Ctrl-C while its libraries are still being loaded is an interruption too."""
    gc.disable()  # until the program is loaded: there is no garbage in it yet, and looking takes a tenth of the time
    # Who starts a program may leave it deaf to its children's ends, so that each seems to have gone well.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        open_closed_streams()
        _begin(sys.argv[1:])
        from smolcli.cli.main import main as program

        program()
    except KeyboardInterrupt:
        sys.exit(Exit.INTERRUPTED)
    finally:
        gc.freeze()  # the interpreter looks for garbage once more when it ends, and everything goes anyway


def _begin(words: list[str]) -> None:
    """Starts the engine's process where words ask for answers, before they are understood: that takes as long."""
    others = ("-h", "--help", "--dry-run", "--engine")
    if not words or "_SMOLCLI_COMPLETE" in os.environ or any(word.startswith(others) for word in words):
        return
    from smolcli import registry

    if words[0] in registry.TASKS:
        from smolcli.process.spawn import ENGINE, begin

        begin(ENGINE, "-v" in words or "--verbose" in words)


if __name__ == "__main__":
    main()
