"""The folder for temporary files, which a read-only container may lack: Python then finds none that it can write."""

from __future__ import annotations

import os
import tempfile

from smolcli.errors import UnavailableError

ADVICE = "set TMPDIR to a folder that can be written"
_is_missing = False  # whether `name_folder` has named one that cannot be written


def temporary_folder() -> str:
    """Return the folder for temporary files. Raises UnavailableError where none can be written."""
    try:
        if not _is_missing:
            return tempfile.gettempdir()
    except FileNotFoundError:  # it tries several, the working directory the last
        pass
    raise UnavailableError(f"no folder for temporary files can be written, not even {_first_choice()}", ADVICE)


def name_folder() -> None:
    """Name a folder where none can be written, for libraries that only ask for its name.

    PyTorch's compiler does when it is imported; it writes there only if something is compiled.
    """
    global _is_missing
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        tempfile.tempdir, _is_missing = _first_choice(), True


def _first_choice() -> str:
    return os.environ.get("TMPDIR") or "/tmp"
