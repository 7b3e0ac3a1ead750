"""`smolcli models`: list what there is, fetch what is missing."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from enum import Enum
from typing import Annotated, Any

import typer

from smolcli import registry
from smolcli.models import catalog, hub_cache, resolve
from smolcli.options import completed
from smolcli.terminal.stdout import write_stderr

app = typer.Typer(help="List and fetch models.", no_args_is_help=True)


class For(str, Enum):
    """The backends a pull can serve."""

    auto = "auto"
    llamacpp = "llamacpp"
    torch = "torch"
    all = "all"


@app.command("list")
def list_models(as_json: Annotated[bool, typer.Option("--json", help="One JSON array, with paths.")] = False) -> None:
    """List the models smolcli knows and those on this machine.

    A table on a terminal; in a pipe one line a model: name, where it runs now, bytes of the GGUF pair,
    bytes of the checkpoint, licence, hub id, description, separated by tabs.
    """
    rows = list(_rows())
    if as_json:
        write_stderr(json.dumps(rows, indent=2, ensure_ascii=False) + "\n")
    elif sys.stdout.isatty():
        _show(rows)
    else:
        for row in rows:
            cells = [row["name"], ",".join(row["here"]), row["pair_bytes"], row["checkpoint_bytes"]]
            cells += [row["licence"], row["repo"], row["about"]]
            write_stderr("\t".join("" if cell is None else str(cell) for cell in cells) + "\n")


@app.command("pull")
def pull(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME|HUB_ID", help="A name of the list, or a hub id.", autocompletion=completed(catalog.CATALOG)
        ),
    ],
    quant: Annotated[str | None, typer.Option(help="Quantization of the language half; default q8_0.")] = None,
    wanted: Annotated[For, typer.Option("--for", help="The backend that shall run it.")] = For.auto,
    offline: Annotated[bool, typer.Option("--offline", help="Only check that it is here.")] = False,
) -> None:
    """Fetch a model into the hub's cache and print the paths of its files.

    --for auto: the GGUF pair, which runs on every machine, or the checkpoint of a hub id without a pair.
    On a GPU with PyTorch take --for torch.

    After a pull that broke off give the command again: whole files are kept, a half one starts over.
    """
    found = registry.load(registry.LIBRARIES, "hub")(name, wanted.value, quant, offline=offline)
    for path in (found.gguf, found.mmproj, found.checkpoint):
        if path is not None:
            write_stderr(f"{path}\n")


def _rows() -> Iterator[dict[str, Any]]:
    for known in catalog.CATALOG.values():
        yield _row(known.name, known.repo, known.pair_bytes, known.checkpoint_bytes, known.licence, known.about)
    yield _row(catalog.NANO, None, None, None, "Apache-2.0", "built in; drawn pictures and print")
    for repo in hub_cache.cached_ids():
        yield _row(repo, repo, None, None, None, "pulled by its hub id")


def _row(
    name: str, repo: str | None, pair_bytes: int | None, checkpoint_bytes: int | None, licence: str | None, about: str
) -> dict[str, Any]:
    found = resolve.whole(name)
    paths = {"gguf": found.gguf, "mmproj": found.mmproj, "checkpoint": found.checkpoint}
    return {
        "name": name,
        "here": [backend for backend in ("llamacpp", "torch") if found.serves(backend)],
        "pair_bytes": pair_bytes,
        "checkpoint_bytes": checkpoint_bytes,
        "licence": licence,
        "repo": repo,
        "about": about,
        "paths": {kind: str(path) if path else None for kind, path in paths.items()},
    }


def _show(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console  # for a terminal alone
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    for title in ("name", "runs here on", "GGUF pair", "checkpoint", "licence", "what it is for"):
        table.add_column(title, justify="right" if title in ("GGUF pair", "checkpoint") else "left")
    for row in rows:
        sizes = (_megabytes(row["pair_bytes"]), _megabytes(row["checkpoint_bytes"]))
        table.add_row(row["name"], ", ".join(row["here"]) or "-", *sizes, row["licence"] or "", row["about"])
    Console(highlight=False).print(table)


def _megabytes(size: int | None) -> str:
    return "" if size is None else f"{size / 1e6:,.0f} MB"
