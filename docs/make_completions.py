"""Makes the completions of bash, zsh and fish in docs/share: `python docs/make_completions.py`; --check only compares.

They are Typer's own. A shell that finds them asks the program what may come next, so they know no command or option
themselves. Wheels have them as data, which pip installs to share/ of the environment.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SHARE = Path(__file__).parent / "share"
FILES = {
    "bash": SHARE / "bash-completion" / "completions" / "smolcli",
    "zsh": SHARE / "zsh" / "site-functions" / "_smolcli",
    "fish": SHARE / "fish" / "vendor_completions.d" / "smolcli.fish",
}
# zsh loads the file as the function _smolcli when it is to complete for the first time. Typer's script only defines
# the function for later, so the first completion would find nothing.
FIRST_TIME = 'if [ "$funcstack[1]" = _smolcli ]; then _smolcli_completion "$@"; fi\n'


def script(shell: str) -> str:
    """What Typer writes for `shell`."""
    done = subprocess.run(
        [sys.executable, "-m", "smolcli"],
        env={**os.environ, "_SMOLCLI_COMPLETE": f"source_{shell}"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    text = done.stdout.strip() + "\n"
    return text + FIRST_TIME if shell == "zsh" else text


def main() -> None:
    """Write the files, or with --check exit with a message if they are others."""
    made = {path: script(shell) for shell, path in FILES.items()}
    if "--check" not in sys.argv:
        for path, text in made.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    elif made != {path: path.read_text(encoding="utf-8") for path in made}:
        sys.exit("the completions in docs/share are not Typer's; run make docs")


if __name__ == "__main__":
    main()
