"""Makes docs/errors.md from smolcli/errors.py: `python docs/make_errors.py`; with --check it only compares."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from smolcli import errors
from smolcli.errors import ErrorKind, Exit, SmolError

PAGE = Path(__file__).parent / "errors.md"
HEAD = """\
# Errors

A failure is one line on standard error, `smolcli: PATH: what is wrong; what to do`; on a terminal it is two, `error:
PATH: what is wrong` and `hint: what to do`. With `-v` a traceback stands before one that ends the run. A failed input
is a record with an `error`, and the run goes on with the others:

```json
{"path": "a.png", "text": "", "error": {"kind": "missing", "message": "no such file; check the path"}, ...}
```

What to do about those that are met often: [troubleshooting](troubleshooting.md). [Messages](messages.md) has them all.

## Kinds

`error.kind` is for scripts; kinds are only ever added.

"""
CRASHES = """
If the engine's process ends, whatever it was working on is tried again alone before an input is blamed; the first time
in a run a notice says so: `the engine was killed (out of memory?) on PATH and started again`. Three crashes in a row,
each while another input is answered, end the run; inputs that crash it while they are opened fail alone.
"""


def table(heading: str, rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    """The lines of a Markdown table of two columns."""
    yield f"| {heading} | meaning |"
    yield "|---|---|"
    for name, meaning in rows:
        yield f"| {name} | {meaning.replace('|', chr(92) + '|')} |"


def tree(error: type[SmolError], depth: int = 0) -> Iterator[str]:
    """An error class and those derived from it, one a line, each with its exit code."""
    yield f"{'  ' * depth + error.__name__:<24}{error.code:>3}"
    for derived in error.__subclasses__():
        if derived.__module__ == errors.__name__:
            yield from tree(derived, depth + 1)


def page() -> str:
    """The whole text of docs/errors.md."""
    return "\n".join(
        [
            HEAD + "\n".join(table("kind", ((f"`{kind}`", kind.meaning) for kind in ErrorKind))),
            CRASHES,
            "## Exit codes\n",
            *table("code", ((str(int(code)), code.meaning) for code in Exit)),
            "\n## In Python\n",
            "The classes of smolcli/errors.py, each with the exit code it ends the program with:\n",
            "```text",
            *tree(SmolError),
            "```\n",
        ]
    )


def main() -> None:
    """Writes the page, or exits with 1 if it is not as it would be written."""
    if "--check" not in sys.argv:
        PAGE.write_text(page(), encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != page():
        sys.exit("docs/errors.md is out of date; run: make docs")


if __name__ == "__main__":
    main()
