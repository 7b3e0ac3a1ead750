"""Where the user's config.toml is, and whether there are settings at all: what every start asks."""

from __future__ import annotations

import os
from pathlib import Path

PREFIX = "SMOLCLI_"  # of environment variables


def config_path() -> Path:
    """The path of the config file: config.toml in $XDG_CONFIG_HOME/smolcli, else ~/.config/smolcli."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")) / "smolcli" / "config.toml"


def is_configured() -> bool:
    """Whether there is a file or a variable with settings; not if this user may not look for the file."""
    return any(name.startswith(PREFIX) for name in os.environ) or os.path.exists(config_path())
