"""Run mypy on smolcli, its tests, and the scripts of benchmarks/ and docs/.

smolcli is checked as it is installed: the folder converters/ is its package smolcli.converters there. mypy's command
line finds modules by folder only and takes either packages or files, so that package and the scripts are added by name.
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
SCRIPTS = ("benchmarks/*.py", "docs/*.py", "docs/samples/*.py")  # those of a folder import each other by file name
# By name, and so checked as benchmarks.upstream and benchmarks.layout.
IMPORTED_BY_TESTS = {
    Path(f"benchmarks/{name}.py") for name in ("upstream", "layout", "gpu_memory", "verify_limits", "golden")
}


def main() -> int:
    """Check everything with the options of mypy in sys.argv, print the errors, and return the exit code."""
    os.chdir(ROOT)
    sources, options = process_options(["-p", "smolcli", "-p", "tests", *sys.argv[1:]])
    for path in sorted(Path("converters").glob("*.py")):
        name = ".".join(("smolcli", *path.with_suffix("").parts)).removesuffix(".__init__")
        sources.append(BuildSource(str(path), name, None))
    for pattern in SCRIPTS:
        scripts = sorted(set(Path().glob(pattern)) - IMPORTED_BY_TESTS)
        sources += [BuildSource(str(path), path.stem, None) for path in scripts]
    for path in sorted(IMPORTED_BY_TESTS):
        sources.append(BuildSource(str(path), ".".join(path.with_suffix("").parts), None))
    try:
        errors = build(sources, options).errors
    except CompileError as error:
        errors = error.messages
    print("\n".join(errors) or f"no type errors in {len(sources)} modules")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
