"""`smolcli models`: list, download, describe and remove models, and tell where their files are."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import typer

from smolcli import registry
from smolcli.cli.dataclass_options import dataclass_command
from smolcli.cli.help import HelpCommand, HelpGroup
from smolcli.errors import ModelError, UsageError
from smolcli.models import catalog, family, hub_cache, resolve
from smolcli.models import pull as fetch
from smolcli.models.catalog_facts import facts_of
from smolcli.models.files import ModelFiles
from smolcli.options import Model, Output
from smolcli.terminal.console import Console
from smolcli.terminal.option_fields import choice, complete_from, opt, same_as
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

OUTPUTS = ("text", "json")

app = typer.Typer(cls=HelpGroup, help="List, download, describe and remove models.")


def _name(help: str) -> Any:
    """The argument that names a model; `help` says how."""
    return opt(
        None,
        help,
        argument=True,
        panel="Arguments",
        metavar="NAME",
        autocompletion=complete_from((*catalog.CATALOG, catalog.NANO)),
    )


def _format() -> Any:
    text = f"How to write it: {enumerate_words(OUTPUTS)}."
    return opt("text", text, "-f", "--format", panel="Output", **choice("--format", OUTPUTS))


def _for(help: str, default: str) -> Any:
    """The option that names a file format by a backend that reads it."""
    words = f"{help}: {enumerate_words(tuple(FORMATS))}."
    return opt(default, words, "--for", **choice("--for", FORMATS, metavar="BACKEND"))


class Named:
    """A request about one model."""

    name: str | None

    def __post_init__(self) -> None:
        if self.name is None:
            raise UsageError("no model was named", "smolcli models list shows the names")

    @property
    def model(self) -> str:
        """The name, which was given."""
        assert self.name is not None
        return self.name


@dataclass(frozen=True)
class Listing:
    """How the list is written."""

    panel = "Output"

    as_json: bool = opt(False, "Write one JSON array, with the paths of files.", "--json")
    format: str = opt("text", "The same as --json: -f json.", "-f", "--format", **choice("--format", OUTPUTS))


@dataclass(frozen=True)
class Download(Named):
    """Which model is downloaded, in which format."""

    panel = "Model"

    name: str | None = _name("A name from `smolcli models list`, or a Hugging Face id.")
    quant: str | None = opt(
        None, "Quantization of the language model.", metavar="QUANT", show_default="what is recommended, else q8_0"
    )
    backend: str = _for("The backend that will run it", "auto")
    revision: str | None = opt(
        None, "A branch, a tag or all digits of a commit of its repository.", metavar="REV", show_default="main"
    )
    offline: bool = same_as(Model, "offline", help="Download nothing; only check that the model is on this machine.")
    quiet: bool = same_as(Output, "quiet", help="Show errors only: no progress.", panel="Output")
    format: str = _format()


@dataclass(frozen=True)
class Description(Named):
    """Which model is described."""

    panel = "Model"

    name: str | None = _name("A name, a Hugging Face id that was pulled, a directory or a .gguf file.")
    check: bool = opt(False, "Read every byte, and compare its SHA-256 with what was published.", "--check")
    format: str = _format()


@dataclass(frozen=True)
class Removal(Named):
    """Which model is removed."""

    panel = "Model"

    name: str | None = _name("A name, or a Hugging Face id that was pulled.")
    backend: str = _for("Remove only what this backend reads", "all")
    yes: bool = opt(False, "Do not ask.", "-y", "--yes")
    quiet: bool = same_as(Output, "quiet", help="Show errors only.", panel="Output")


@dataclass(frozen=True)
class Location(Named):
    """Which model's files are told."""

    panel = "Model"

    name: str | None = _name("A name, or a Hugging Face id that was pulled.")
    backend: str = _for("Only what this backend reads", "all")
    format: str = _format()


def list_models(options: Listing) -> None:
    """Write the known models, and those on this machine, to standard output."""
    rows = list(model_rows())
    if options.as_json or options.format == "json":
        _write_json(rows)
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
    files = fetch.pull(
        options.model,
        FORMATS[options.backend],
        options.quant,
        options.revision,
        offline=options.offline,
        quiet=options.quiet,
    )
    _write_paths(files, options.format)


def info(options: Description) -> None:
    """Write what is known of a model to standard output."""
    from smolcli.commands.model_page import page  # with the module that reads checkpoints, which a list does without
    from smolcli.models.model_info import describe

    description = describe(options.model, options.check)
    if options.format == "json":
        _write_json(description)
    else:
        write_stdout(page(description))


def remove(options: Removal) -> None:
    """Remove a model from the cache, after a question on a terminal."""
    from smolcli.models.removal import find_removal

    removal = find_removal(options.model, FORMATS[options.backend].replace("auto", "all"))
    size = f"{removal.bytes / 1e6:,.1f} MB"
    if not options.yes:
        if not _is_terminal():
            raise UsageError(f"{options.model}: nobody can be asked whether to remove {size}", "add -y")
        lines = [*map(str, removal.folders), f"Remove {options.model}, {size}? [y/N] "]
        print("\n".join(lines), end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            Console(options.quiet).notice("nothing was removed")
            return
    removal.remove()
    Console(options.quiet).notice(f"removed {options.model}, {size}")


def _is_terminal() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def path(options: Location) -> None:
    """Write the paths of a model's files to standard output."""
    files = resolve.find_files(options.model)
    kind = FORMATS[options.backend]
    if kind == "gguf":
        files = replace(files, checkpoint=None)
    elif kind == "checkpoint":
        files = replace(files, gguf=None, mmproj=None)
    if not files.formats:
        advice = f"smolcli models pull {options.model}" + (f" --for {options.backend}" if kind == "checkpoint" else "")
        raise ModelError(f"{options.model}: not on this machine", advice)
    _write_paths(files, options.format)


def _write_paths(files: ModelFiles, output: str) -> None:
    paths = {"gguf": files.gguf, "mmproj": files.mmproj, "checkpoint": files.checkpoint}
    if output == "json":
        _write_json({kind: str(path) if path is not None else None for kind, path in paths.items()})
    else:
        write_stdout("".join(f"{path}\n" for path in paths.values() if path is not None))


def _write_json(value: object) -> None:
    write_stdout(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


LIST_HELP = """List the models smolcli knows and those on this machine.

On a terminal a table. In a pipe a header and one line a model, with tabs between: name, the backends that can run it
now, bytes of the GGUF pair, bytes of the checkpoint, licence, Hugging Face id, description.
"""
PULL_HELP = """Download a model and print the paths of its files.

--for auto takes the GGUF pair, which runs on every machine, or the checkpoint of a Hugging Face id without a pair. For
PyTorch on a GPU take --for torch.

The model's config is looked at before its weights are fetched: what smolcli does not run is refused (exit code 3).

The files of a listed model are compared with the bytes and SHA-256 that were published. Where its repository was made
again since, a notice says so; another file at the published revision is refused.

After Ctrl-C and after a download that broke off, run the command again: it goes on where it ended.
"""
INFO_HELP = """Describe a model: what it is good for, its sizes, and what to beware of.

A model of the list is described whether it is on this machine or not; of all others the files are read: a checkpoint,
a GGUF pair, or half of one.
"""
RM_HELP = """Remove a model from the cache.

Only what lies in the cache of models is removed, never a file of your own. On a terminal it asks first; elsewhere it
needs -y.
"""
PATH_HELP = """Print the paths of a model's files on this machine.

The language half and the vision half of its GGUF pair, then the directory of its checkpoint, one a line, whatever of
them is here. Exit code 3 where nothing is.
"""
EXAMPLES = {
    "list": ("smolcli models list", "smolcli models list --json"),
    "pull": (
        "smolcli models pull 500m",
        "smolcli models pull 256m --quant q8_0",
        "smolcli models pull 2.2b --for torch",
    ),
    "info": (
        "smolcli models info 500m",
        "smolcli models info mmproj-model-f16.gguf",
        "smolcli models info 256m --check",
    ),
    "rm": ("smolcli models rm 256m", "smolcli models rm 2.2b --for torch -y"),
    "path": ("smolcli models path 256m", "smolcli models path 256m --for llamacpp"),
}


def _add(name: str, help: str, command: Any) -> None:
    first_line = help.partition("\n")[0]
    epilog = "\n".join(EXAMPLES[name])
    app.command(name, cls=HelpCommand, help=help, short_help=first_line, epilog=epilog)(command)


_add("list", LIST_HELP, dataclass_command(list_models, Listing))
_add("pull", PULL_HELP, dataclass_command(pull, Download))
_add("info", INFO_HELP, dataclass_command(info, Description))
_add("rm", RM_HELP, dataclass_command(remove, Removal))
_add("path", PATH_HELP, dataclass_command(path, Location))


def model_rows() -> Iterator[dict[str, Any]]:
    """Yield what --json writes of each model: the catalog, the built-in model, and models pulled by their hub id."""
    for entry in catalog.CATALOG.values():
        facts = facts_of(entry)
        published = {
            "pair_bytes": facts.pair_bytes,
            "checkpoint_bytes": facts.checkpoint_bytes,
            "licence": facts.licence,
            "repo": entry.repo,
            "about": facts.about,
            "quant": entry.quant,
            "context": facts.context,
            "picture_tokens": facts.picture_tokens,
        }
        yield _row(entry.name, published)
    yield _row(catalog.NANO, {"licence": catalog.NANO_LICENCE, "about": catalog.NANO_ABOUT})
    for repo in hub_cache.cached_ids():
        yield _row(repo, {"repo": repo, "about": "pulled by its Hugging Face id"})


def _row(name: str, published: dict[str, Any]) -> dict[str, Any]:
    """What is published of a model, None for what is not known, and what of it is on this machine."""
    files = resolve.find_or_empty(name)
    paths = {"gguf": files.gguf, "mmproj": files.mmproj, "checkpoint": files.checkpoint}
    keys = ("pair_bytes", "checkpoint_bytes", "licence", "repo", "about", "quant", "context", "picture_tokens")
    row = {"name": name, "here": family.backends_here(files), **{key: published.get(key) for key in keys}}
    return row | {"paths": {kind: str(path) if path else None for kind, path in paths.items()}}


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
