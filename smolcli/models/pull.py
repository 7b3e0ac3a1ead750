"""Downloads a model in a child process: one Ctrl-C ends it at once, whatever the network is doing."""

from __future__ import annotations

import sys

from smolcli import registry
from smolcli.models.files import ModelFiles
from smolcli.process.child import call
from smolcli.terminal.console import Console


def pull(
    name: str,
    file_format: str = "auto",
    quant: str | None = None,
    revision: str | None = None,
    *,
    offline: bool = False,
    quiet: bool = False,
) -> ModelFiles:
    """Fetch a model as hub.pull does; the child draws progress bars on a terminal's standard error, unless `quiet`.

    A notice says where its repository was made again.
    Raises what hub.pull raises, and KeyboardInterrupt after a notice: what was fetched is kept.
    """
    registry.require(registry.ON_DEMAND, "hub")
    shows_bars = sys.stderr.isatty() and not quiet
    target = registry.ON_DEMAND["hub"].target
    try:
        files: ModelFiles = call(target, name, file_format, quant, offline, revision, verbose=shows_bars)
    except KeyboardInterrupt:
        if shows_bars:
            print(file=sys.stderr)  # leaves the line of the bar
        Console(quiet).notice("stopped; what was fetched is kept, and the same command goes on from there")
        raise
    if files.notice:
        Console(quiet).notice(files.notice)
    return files
