"""Run mypy on smolcli as it is installed: the folder converters/ is its package smolcli.converters there.

mypy's command line finds modules by folder only, so the sources of that package are added to the others by name.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from mypy.build import build
from mypy.errors import CompileError
from mypy.main import process_options
from mypy.modulefinder import BuildSource

ROOT = Path(__file__).parent.parent


def main() -> int:
    """Check smolcli and the further arguments of mypy, print the errors, and return the exit code."""
    os.chdir(ROOT)
    sources, options = process_options(["-p", "smolcli", *sys.argv[1:]])
    for path in sorted(Path("converters").glob("*.py")):
        name = ".".join(("smolcli", *path.with_suffix("").parts)).removesuffix(".__init__")
        sources.append(BuildSource(str(path), name, None))
    try:
        errors = build(sources, options).errors
    except CompileError as error:
        errors = error.messages
    print("\n".join(errors) or f"no type errors in {len(sources)} modules")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
