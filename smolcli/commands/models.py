"""`smolcli models`: list the models, and download them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import typer

from smolcli import registry
from smolcli.cli.dataclass_options import dataclass_command
from smolcli.cli.help import HelpCommand, HelpGroup
from smolcli.errors import UsageError
from smolcli.models import catalog, hub_cache, resolve
from smolcli.models import pull as fetch
from smolcli.terminal.option_fields import choice, complete_from, opt
from smolcli.terminal.stdout import write_stdout
from smolcli.terminal.words import enumerate_words

# What --for takes, and the file format that is downloaded for it: a backend stands for the format it reads.
FORMATS: dict[str, str] = {
    "auto": "auto",
    **{name: registry.BACKENDS[name].file_format.replace("any", "auto") for name in sorted(registry.backends())},
    "all": "all",
}

COLUMNS = ("name", "backends", "pair_bytes", "checkpoint_bytes", "licence", "repo", "about")  # of the list in a pipe
MIN_ABOUT = 24  # columns for the description on a terminal; with less, other columns are left out

app = typer.Typer(cls=HelpGroup, help="List and download models.")


@dataclass(frozen=True)
class Listing:
    """How the list is written."""

    panel = "Output"

    as_json: bool = opt(False, "Write one JSON array, with the paths of files.", "--json")


@dataclass(frozen=True)
class Download:
    """Which model is downloaded, in which format."""

    panel = "Model"

    name: str | None = opt(
        None,
        "A name from `smolcli models list`, or a Hugging Face id.",
        argument=True,
        panel="Arguments",
        metavar="NAME",
        autocompletion=complete_from(catalog.CATALOG),
    )
    quant: str | None = opt(None, "Quantization of the language model.", metavar="QUANT", show_default="q8_0")
    backend: str = opt(
        "auto",
        f"The backend that will run it: {enumerate_words(tuple(FORMATS))}.",
        "--for",
        **choice("--for", FORMATS, metavar="BACKEND"),
    )
    offline: bool = opt(False, "Download nothing; only check that the model is on this machine.", "--offline")
    quiet: bool = opt(False, "Show errors only: no progress.", "-q", "--quiet", panel="Output")

    def __post_init__(self) -> None:
        if self.name is None:
            raise UsageError("no model was named", "smolcli models list shows the names")


def list_models(options: Listing) -> None:
    """Write the known models, and those on this machine, to standard output."""
    rows = list(model_rows())
    if options.as_json:
        write_stdout(json.dumps(rows, indent=2, ensure_ascii=False) + "\n")
    elif sys.stdout.isatty():
        _show_table(rows)
    else:
        write_stdout("\t".join(COLUMNS) + "\n")
        for row in rows:
            cells = [row["name"], ",".join(row["here"]), row["pair_bytes"], row["checkpoint_bytes"]]
            cells += [row["licence"], row["repo"], row["about"]]
            write_stdout("\t".join("" if cell is None else str(cell) for cell in cells) + "\n")


def pull(options: Download) -> None:
    """Download a model and write the paths of its files to standard output."""
    assert options.name is not None
    files = fetch.pull(
        options.name, FORMATS[options.backend], options.quant, offline=options.offline, quiet=options.quiet
    )
    for path in (files.gguf, files.mmproj, files.checkpoint):
        if path is not None:
            write_stdout(f"{path}\n")


LIST_HELP = """List the models smolcli knows and those on this machine.

On a terminal a table. In a pipe a header and one line a model, with tabs between: name, the backends that can run it
now, bytes of the GGUF pair, bytes of the checkpoint, licence, Hugging Face id, description.
"""
PULL_HELP = """Download a model and print the paths of its files.

--for auto takes the GGUF pair, which runs on every machine, or the checkpoint of a Hugging Face id without a pair. For
PyTorch on a GPU take --for torch.

The model's config is looked at before its weights are fetched: what smolcli does not run is refused (exit code 3).

After Ctrl-C and after a download that broke off, run the command again: it goes on where it ended.
"""
EXAMPLES = {
    "list": ("smolcli models list", "smolcli models list --json"),
    "pull": (
        "smolcli models pull 500m",
        "smolcli models pull 256m --quant f16",
        "smolcli models pull 2.2b --for torch",
    ),
}


def _add(name: str, help: str, command: Any) -> None:
    first_line = help.partition("\n")[0]
    epilog = "\n".join(EXAMPLES[name])
    app.command(name, cls=HelpCommand, help=help, short_help=first_line, epilog=epilog)(command)


_add("list", LIST_HELP, dataclass_command(list_models, Listing))
_add("pull", PULL_HELP, dataclass_command(pull, Download))


def model_rows() -> Iterator[dict[str, Any]]:
    """Yield what --json writes of each model: the catalog, the built-in model, and models pulled by their hub id."""
    for entry in catalog.CATALOG.values():
        yield _row(entry.name, entry.repo, entry.pair_bytes, entry.checkpoint_bytes, entry.licence, entry.about)
    yield _row(catalog.NANO, None, None, None, "Apache-2.0", "built in; drawn pictures and print")
    for repo in hub_cache.cached_ids():
        yield _row(repo, repo, None, None, None, "pulled by its Hugging Face id")


def _row(
    name: str, repo: str | None, pair_bytes: int | None, checkpoint_bytes: int | None, licence: str | None, about: str
) -> dict[str, Any]:
    files = resolve.find_or_empty(name)
    paths = {"gguf": files.gguf, "mmproj": files.mmproj, "checkpoint": files.checkpoint}
    return {
        "name": name,
        "here": [
            backend
            for backend in sorted(registry.backends())
            if files.can_run_on(backend) and registry.installed(registry.BACKENDS[backend])
        ],
        "pair_bytes": pair_bytes,
        "checkpoint_bytes": checkpoint_bytes,
        "licence": licence,
        "repo": repo,
        "about": about,
        "paths": {kind: str(path) if path else None for kind, path in paths.items()},
    }


def _show_table(rows: list[dict[str, Any]]) -> None:
    """Print a table of whole words: where the terminal is narrow, without the columns that matter least."""
    from rich.console import Console  # for a terminal alone
    from rich.table import Table

    console = Console(highlight=False)
    columns = {
        "name": [row["name"] for row in rows],
        "runs here on": [", ".join(row["here"]) or "-" for row in rows],
        "GGUF pair": [_megabytes(row["pair_bytes"]) for row in rows],
        "checkpoint": [_megabytes(row["checkpoint_bytes"]) for row in rows],
        "licence": [row["licence"] or "" for row in rows],
    }
    widths = {title: max(map(len, [title, *cells])) + 2 for title, cells in columns.items()}
    for title in ("licence", "checkpoint", "GGUF pair"):
        if sum(widths[shown] for shown in columns) + MIN_ABOUT > console.width:
            del columns[title]
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for title in columns:
        table.add_column(title, justify="right" if title in ("GGUF pair", "checkpoint") else "left", no_wrap=True)
    table.add_column("what it is for")
    for cells in zip(*columns.values(), [row["about"] for row in rows], strict=True):
        table.add_row(*cells)
    console.print(table)


def _megabytes(size: int | None) -> str:
    return "" if size is None else f"{size / 1e6:,.0f} MB"
