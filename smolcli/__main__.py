"""The program smolcli, also as `python -m smolcli`."""

import sys

from smolcli.errors import Exit


def main() -> None:
    """Runs the program; Ctrl-C while its libraries are still being loaded is an interruption too."""
    try:
        from smolcli.cli import main as program

        program()
    except KeyboardInterrupt:
        sys.exit(Exit.INTERRUPTED)


if __name__ == "__main__":
    main()
