"""Draws docs/first-run.svg from the program's real output: `python docs/make_first_run.py`; --check only compares."""

from __future__ import annotations

import inspect
import io
import re
import sys
from pathlib import Path

from cog_shell import outputs
from rich.console import Console
from rich.text import Text

PICTURE = Path(__file__).parent / "first-run.svg"
COMMANDS = (
    "smolcli ocr docs/samples/sign.png",
    "smolcli caption docs/samples/scene.png",
    'smolcli ask "How many circles?" docs/samples/circles.png',
)
# Rich's own format without its web font, which GitHub does not load in a picture.
RICH_FORMAT = inspect.signature(Console.export_svg).parameters["code_format"].default
FORMAT = re.sub(r"@font-face {{.*?}}\n", "", RICH_FORMAT, flags=re.DOTALL).replace("Fira Code, ", "")


def draw() -> str:
    """Return the picture as SVG, the same text each time."""
    console = Console(file=io.StringIO(), record=True, width=72, force_terminal=True, color_system="truecolor")
    for command, output in zip(COMMANDS, outputs(*COMMANDS), strict=True):
        console.print(Text.assemble(("$ ", "green"), (command, "bold")))
        console.print(Text(output))
    svg = console.export_svg(title="smolcli", code_format=FORMAT, unique_id="first-run")
    return "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"


def main() -> None:
    """Write the picture, or with --check exit with a message if the file is another one."""
    svg = draw()
    if "--check" not in sys.argv:
        PICTURE.write_text(svg, encoding="utf-8")
    elif PICTURE.read_text(encoding="utf-8") != svg:
        sys.exit("docs/first-run.svg is not what the program prints; run make docs")


if __name__ == "__main__":
    main()
